"""When what is measured now and then is measured, and what of it is logged."""

import pytest
from datasets import Dataset
from peft import LoraConfig
from tiny_pipelines import build_pipeline

from arr_trl import RPOConfig, RPOTrainer


def alternating(prompts, completions, **columns):
    return [float(i % 2) for i in range(len(completions))]


def train(tmp_path, **overrides):
    args = RPOConfig(
        output_dir=str(tmp_path / "out"), height=32, width=32, max_sequence_length=12, num_inference_steps=4,
        noise_level=0.7, per_device_train_batch_size=12, gradient_accumulation_steps=1, max_steps=4, bf16=False,
        use_cpu=True, report_to=[], save_strategy="no", gradient_checkpointing=False, disable_tqdm=True, beta=0.0,
        learning_rate=1e-2, lr_scheduler_type="constant", log_completions=True, **overrides,
    )  # fmt: skip
    trainer = RPOTrainer(
        model=build_pipeline(0),
        reward_funcs=alternating,
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["a red circle", "a blue square", "a cat", "a dog"]}),
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )
    before = trainer.transformer_forwards
    trainer.train()
    logged = {entry["step"]: entry.get("policy/kl") for entry in trainer.state.log_history if "loss" in entry}
    return (
        logged,
        sorted(path.stem for path in (tmp_path / "out" / "completions").glob("*.png")),
        (trainer.transformer_forwards - before),
    )


@pytest.mark.parametrize("logging_steps", [2, 0.5])  # half of four steps
def test_logging_steps_may_be_a_share_of_the_run(tmp_path, logging_steps):
    logged, completions, _ = train(tmp_path, logging_steps=logging_steps)
    assert list(logged) == [2, 4]
    assert completions == ["step_000001", "step_000003"]


def test_divergence_without_a_penalty_is_that_of_the_step_that_is_logged(tmp_path):
    every_step, _, _ = train(tmp_path / "every", logging_steps=1)
    now_and_then, _, _ = train(tmp_path / "second", logging_steps=2)
    assert every_step[1] == 0  # the adapter is the base's until the optimizer's first step
    assert every_step[2] > 0
    assert now_and_then == {2: every_step[2], 4: every_step[4]}


def test_divergence_that_nobody_logs_costs_no_pass(tmp_path):
    passes = [train(tmp_path / str(steps), logging_steps=steps)[2] for steps in (1, 2, 4)]
    in_a_step = passes[1] - passes[2]  # measured twice, and once
    assert in_a_step > 0
    assert passes[0] - passes[1] == 2 * in_a_step
