"""`ResumableTrainer` beside a Trainer that knows nothing of pictures: what trainers of judges stand on."""

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from arr_trl.runtime import CheckpointError, ResumableTrainer


class Line(torch.nn.Module):
    """Least squares with one weight and dropout, whose random state a checkpoint has to keep."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x, labels):
        prediction = self.layer(torch.nn.functional.dropout(x, 0.5, self.training))
        return {"loss": ((prediction.squeeze(1) - labels) ** 2).mean()}


class ResumableLineTrainer(ResumableTrainer, Trainer):
    pass


class Fail(TrainerCallback):
    """As a judge that breaks: an error in the middle of training."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise ValueError("the judge is gone")


def trainer_for(output_dir, callbacks=(), **overrides) -> ResumableLineTrainer:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    rows = Dataset.from_dict(
        {"x": torch.randn(32, 4, generator=generator).tolist(), "labels": [float(i) for i in range(32)]}
    )
    args = TrainingArguments(
        str(output_dir), per_device_train_batch_size=4, save_steps=2, use_cpu=True, bf16=False,
        report_to=[], disable_tqdm=True, seed=3, logging_steps=1, **{"learning_rate": 0.1, "max_steps": 6, **overrides},
    )  # fmt: skip
    return ResumableLineTrainer(model=Line(), args=args, train_dataset=rows, callbacks=list(callbacks))


def weights(folder):
    return load_file(folder / "model.safetensors")["layer.weight"]


def test_any_trainer_goes_on_to_the_same_weights_after_an_error(tmp_path):
    trainer_for(tmp_path / "whole").train()
    with pytest.raises(ValueError, match="the judge is gone"):
        trainer_for(tmp_path / "broken", [Fail(3)]).train()
    # the error came after step 3, between two regular checkpoints, and what was trained is kept
    assert (tmp_path / "broken" / "checkpoint-3" / "checkpoint.json").is_file()
    trainer_for(tmp_path / "broken").train(resume_from_checkpoint=True)
    whole, resumed = (weights(tmp_path / run / "checkpoint-6") for run in ("whole", "broken"))
    assert torch.equal(whole, resumed)


def test_any_trainer_refuses_a_damaged_checkpoint(tmp_path):
    trainer_for(tmp_path).train()
    with (tmp_path / "checkpoint-6" / "optimizer.pt").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match=r"optimizer\.pt is not what was written; resume from .*checkpoint-4"):
        trainer_for(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))


def rates(trainer):
    return [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]


def test_resumed_run_has_the_rate_and_decay_that_it_asks_for(tmp_path):
    trainer_for(tmp_path, lr_scheduler_type="constant").train()
    changed = dict(learning_rate=1e-9, weight_decay=0.5, adam_beta2=0.9, adam_epsilon=1e-3)
    trainer = trainer_for(tmp_path, lr_scheduler_type="constant", **changed)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert rates(trainer) == [0.1] * 4 + [1e-9] * 2
    before, after = (weights(tmp_path / f"checkpoint-{step}") for step in (4, 6))
    torch.testing.assert_close(after, before, atol=1e-7, rtol=0)
    decayed = trainer.optimizer.param_groups[0]
    assert (decayed["weight_decay"], decayed["betas"][1], decayed["eps"]) == (0.5, 0.9, 1e-3)


def test_first_resumed_step_has_the_rate_of_the_new_schedule(tmp_path):
    trainer_for(tmp_path).train()
    longer = trainer_for(tmp_path / "longer", max_steps=12)
    longer.train()
    trainer = trainer_for(tmp_path, max_steps=12)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert rates(trainer)[4:] == rates(longer)[4:]
