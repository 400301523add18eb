"""Training one rollout behind the judge: what is trained on when, and that a resumed run goes on alike."""

import copy

import torch
from datasets import Dataset
from peft import LoraConfig

from arr_trl import RPOConfig, RPOTrainer, Rubric, RubricJudge
from arr_trl.rubrics import Criterion
from arr_trl.tiny_scenes import TinyScenesJudge, captions


RUBRIC = Rubric(name="colors", criteria=[Criterion(text="Both colors that the caption names appear.")])


def build(pipeline, tmp_path, reward, **overrides):
    settings = dict(
        output_dir=str(tmp_path / "out"),
        height=32,
        width=32,
        max_sequence_length=12,
        num_inference_steps=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
        max_steps=4,
        learning_rate=1e-2,
        logging_steps=1,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
        disable_tqdm=True,
        pipelined_judge=True,
    )
    return RPOTrainer(
        pipeline,
        reward,
        RPOConfig(**{**settings, **overrides}),
        Dataset.from_dict({"prompt": captions("train")[:8]}),
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )


def adapter(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "lora_" in name}


def test_each_step_trains_on_the_rollout_before_it(flux_pipeline, tmp_path):
    scored = []

    def first_wins(prompts, completions, trainer_state, **columns):
        scored.append(trainer_state.global_step)
        return [float(i % 2 == 0) for i in range(len(completions))]

    trainer = build(flux_pipeline, tmp_path, first_wins)
    trainer.train()
    assert scored == [1, 2, 3]  # the first rollout in the second step
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert log[0]["loss"] == log[0]["grad_norm"] == 0.0
    assert all(entry["grad_norm"] > 0 for entry in log[1:])
    # the first rollout is of the policy as it still is at the second step; from then on they are one update old
    assert log[1]["policy/ratio_deviation"] < 1e-5 < log[2]["policy/ratio_deviation"]


def test_resumed_run_trains_on_what_was_with_the_judge(flux_pipeline, tmp_path):
    def judge():
        return RubricJudge(rubric=RUBRIC, model=TinyScenesJudge(noise=1.0))  # a winner almost everywhere

    settings = dict(save_strategy="steps", save_steps=2)
    whole = build(copy.deepcopy(flux_pipeline), tmp_path, judge(), **settings)
    whole.train()
    resumed = build(copy.deepcopy(flux_pipeline), tmp_path, judge(), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert all(torch.equal(value, adapter(resumed)[name]) for name, value in adapter(whole).items())
    assert any(value.abs().max() > 0 for name, value in adapter(whole).items() if "lora_B" in name)
