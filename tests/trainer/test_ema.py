"""An average of the adapter: it follows, it is what is seen and released, and training goes on from the other."""

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from test_diffusion_nft_trainer import ROWS, build, config, lora_b
from transformers import TrainerCallback

from arr_trl.trainer.evaluation import draw_rows
from arr_trl.trainer.frozen_adapters import EMA, use_frozen_copy


def released(folder):
    weights = load_file(folder / "adapter_model.safetensors")
    return {name: weight for name, weight in weights.items() if "lora_B" in name}


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for (name, weight), (other, value) in zip(sorted(found.items()), sorted(expected.items()), strict=True):
        assert name.removeprefix("base_model.model.") == other.removeprefix("base_model.model.")
        assert torch.equal(weight, value), name


class Steps(TrainerCallback):
    """Keeps the trained weights after each step."""

    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append({n: p.clone() for n, p in model.named_parameters() if ".lora_B.default." in n})


def test_average_keeps_more_of_itself_from_step_to_step_up_to_the_decay(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, ema_decay=0.25, max_steps=4)
    steps = Steps()
    trainer.add_callback(steps)
    trainer.train()
    average = {name: torch.zeros_like(weight) for name, weight in steps.weights[0].items()}  # at first no adapter
    for k, weights in enumerate(steps.weights, start=1):
        keep = min((1 + k) / (10 + k), 0.25)
        average = {name: keep * average[name] + (1 - keep) * weight for name, weight in weights.items()}
    for name, weight in lora_b(trainer, EMA).items():
        torch.testing.assert_close(weight, average[name.replace(".lora_B.", ".lora_B.default.")])


def test_average_is_released_and_drawn_with_and_the_trained_one_goes_on(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, ema_decay=0.9, max_steps=3, save_strategy="steps", save_steps=3)
    trainer.eval_dataset = Dataset.from_list(ROWS)
    trainer.train()
    before, average = lora_b(trainer, "default"), lora_b(trainer, EMA)
    trainer.save_model()
    assert_same(released(trainer.adapter_folder), average)
    assert_same(released(tmp_path / "out" / "checkpoint-3"), before)  # what a run goes on from
    seen = []
    trainer.reward_funcs[0] = lambda prompts, completions, **columns: (
        seen.append(completions) or [0.0] * len(completions)
    )
    trainer.evaluate()
    with use_frozen_copy(trainer.model, EMA):
        expected = draw_rows(trainer.policy, trainer.model, ROWS, [0, 1], trainer.args)
    assert [image.tobytes() for image in seen[0][1::2]] == [image.tobytes() for image in expected]
    assert_same(lora_b(trainer, "default"), before)
    assert_same(lora_b(trainer, EMA), average)


def test_average_is_what_is_saved_wherever_it_is_asked_for(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, ema_decay=0.9, max_steps=2)
    trainer.train()
    trainer.save_model(str(tmp_path / "elsewhere"))
    assert_same(released(tmp_path / "elsewhere"), lora_b(trainer, EMA))


def test_checkpoint_of_the_model_alone_has_its_average(flux_pipeline, tmp_path):
    settings = dict(ema_decay=0.9, max_steps=3, save_strategy="steps", save_steps=1, save_only_model=True)
    trainer = build(flux_pipeline, tmp_path, **settings)
    trainer.train()
    last = lora_b(trainer, EMA)
    trainer.state.best_model_checkpoint = str(tmp_path / "out" / "checkpoint-1")
    trainer._load_best_model()
    assert any(not torch.equal(weight, last[name]) for name, weight in lora_b(trainer, EMA).items())


def test_release_that_is_pushed_from_a_checkpoint_is_of_its_average(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, ema_decay=0.9, max_steps=2, save_strategy="steps", save_steps=1)
    trainer.train()
    trainer._release_checkpoint(tmp_path / "out" / "checkpoint-2")
    assert_same(released(trainer.adapter_folder), lora_b(trainer, EMA))


def test_best_model_is_the_average_of_its_own_step(flux_pipeline, tmp_path):
    settings = dict(ema_decay=0.9, max_steps=3, save_strategy="steps", save_steps=1)
    trainer = build(flux_pipeline, tmp_path, **settings)
    trainer.train()
    last = lora_b(trainer, EMA)
    trainer.state.best_model_checkpoint = str(tmp_path / "out" / "checkpoint-1")
    trainer._load_best_model()
    assert any(not torch.equal(weight, last[name]) for name, weight in lora_b(trainer, EMA).items())
    trainer.save_model()
    assert_same(released(trainer.adapter_folder), lora_b(trainer, EMA))


def test_resumed_run_has_the_average_of_the_uninterrupted_one(flux_pipeline, tmp_path):
    settings = dict(ema_decay=0.9, max_steps=4, save_strategy="steps", save_steps=2)
    whole = build(flux_pipeline, tmp_path, **settings)
    whole.train()
    resumed = build(flux_pipeline, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert_same(lora_b(resumed, EMA), lora_b(whole, EMA))


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_decay_that_is_no_share_is_refused(tmp_path, decay):
    with pytest.raises(ValueError, match="is a share, greater than 0 and less than 1"):
        config(tmp_path, ema_decay=decay)
