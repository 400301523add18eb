"""Each warning comes from a run that deserves it, and none from a run that does not."""

import logging

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from arr_trl import RPOConfig, RPOTrainer, RubricJudge
from arr_trl.tiny_scenes import BASE_MODEL, TinyScenesJudge, prompts
from arr_trl.tiny_scenes.judge import zero_shot_rubric
from arr_trl.trainer.watch import HealthCallback, clip_problem, collapse, kl_running_away


def config(folder, **changes):
    settings = {
        "output_dir": str(folder),
        "height": 32,
        "width": 32,
        "max_sequence_length": 12,
        "num_inference_steps": 4,
        "sde_type": "cps",
        "noise_level": 0.8,
        "sde_window_size": 1,
        "sde_window_range": [0, 2],
        "center_rewards": True,
        "beta": 0.0,
        "per_device_train_batch_size": 24,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "learning_rate": 6e-4,
        "max_steps": 8,
        "logging_steps": 1,
        "save_strategy": "no",
        "eval_num_inference_steps": 2,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
    }
    return RPOConfig(**(settings | changes))


def trained(folder, reward=None, eval_dataset=None, **changes) -> RPOTrainer:
    trainer = RPOTrainer(
        model=str(BASE_MODEL),
        reward_funcs=reward or judge(),
        args=config(folder, **changes),
        train_dataset=prompts("train[:96]"),
        eval_dataset=eval_dataset,
    )
    trainer.train()
    return trainer


def judge(**flaws) -> RubricJudge:
    return RubricJudge(zero_shot_rubric(), TinyScenesJudge(**flaws))


def flatness(prompts, completions, **columns):
    """A reward that nobody would want: the plainest picture wins."""
    return [-float(np.asarray(image, dtype=float).std()) for image in completions]


def warnings_of(trainer) -> dict[str, str]:
    (health,) = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, HealthCallback)]
    return health.warnings


def test_healthy_run_has_no_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="arr_trl"):
        assert warnings_of(trained(tmp_path, max_steps=12)) == {}
    assert not [record for record in caplog.records if "health" in record.name]


def test_candidates_without_a_difference(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="arr_trl"):
        found = warnings_of(trained(tmp_path, noise_level=1e-5, max_steps=4))
    assert "Raise `noise_level`" in found["no difference"]
    assert "Step 3: the candidates of a prompt differ by" in caplog.text


def test_judge_that_goes_by_position(tmp_path):
    found = warnings_of(trained(tmp_path, judge(position_bias=1.0), max_steps=4))
    assert "in 0% of its comparisons" in found["coin flip"]
    assert "arr-trl judge eval" in found["coin flip"]


def test_judge_that_draws_lots(tmp_path):
    # ties aside it agrees with itself in half of its answers
    found = warnings_of(trained(tmp_path, judge(noise=1.0), max_steps=4))
    assert "a coin reaches 50%" in found["coin flip"]


def test_clip_that_takes_most_transitions(tmp_path):
    found = warnings_of(trained(tmp_path, num_iterations=4, epsilon=1e-7, max_steps=8, learning_rate=1e-2))
    assert "of the transitions (`policy/clip_fraction`)" in found["clip"]


def test_clip_that_is_never_reached_off_policy(tmp_path):
    found = warnings_of(trained(tmp_path, num_iterations=2, epsilon=0.2))
    assert "nothing bounds the updates. Choose `epsilon=0.2` in the size of `policy/ratio_deviation`" in found["clip"]


def test_divergence_that_runs_away(tmp_path):
    found = warnings_of(trained(tmp_path, learning_rate=0.3))
    assert "Lower `learning_rate=0.3`" in found["kl"]


def test_policy_that_draws_ever_the_same(tmp_path):
    found = warnings_of(trained(tmp_path, flatness, learning_rate=5e-3, max_steps=12))
    assert "the policy draws ever the same" in found["collapse"]


@pytest.mark.parametrize("divergences", [
    [step / 100 for step in range(200)],  # steady
    [0.1 * (1 - 0.98**step) for step in range(200)],  # settling
    [1e-6, 1e-4, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3],  # fast at first, and still nothing
])  # fmt: skip
def test_divergence_of_a_normal_run_is_let_be(divergences):
    for end in range(1, len(divergences)):
        assert kl_running_away(divergences[:end], 1e-4, 0.01) is None


def test_on_policy_runs_have_nothing_to_clip():
    assert clip_problem([0.0] * 50, on_policy=True, epsilon=0.2) is None


def test_candidates_that_come_a_little_closer_are_let_be():
    assert collapse([0.06, 0.055, 0.05, 0.045, 0.04, 0.035, 0.03, 0.025, 0.022]) is None


def test_run_ends_when_the_win_rate_stops_rising(tmp_path):
    # nothing is learned with this rate, so every evaluation after the first is no better
    trainer = trained(
        tmp_path, eval_dataset=prompts("test[:3]"), learning_rate=0.0, max_steps=8, early_stopping=2,
        eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=100,
    )  # fmt: skip
    assert trainer.state.global_step == 3
    assert trainer.state.best_global_step == 1


@pytest.mark.parametrize("strategy", ["best", "steps"])
def test_best_adapter_is_released_when_it_is_asked_for(tmp_path, strategy):
    def worse_after_the_first_step(prompts, completions, trainer_state, **columns):
        return [float((i % 2 == 0) == (trainer_state.global_step > 1)) for i in range(len(completions))]

    trainer = trained(
        tmp_path, worse_after_the_first_step, eval_dataset=prompts("test[:3]"), max_steps=8, early_stopping=2,
        eval_strategy="steps", eval_steps=1, save_strategy=strategy, save_steps=1, load_best_model_at_end=True,
    )  # fmt: skip
    assert (trainer.state.global_step, trainer.state.best_global_step) == (3, 1)
    trainer.save_model()
    released, best = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (trainer.adapter_folder, tmp_path / "checkpoint-1")
    )
    assert all(torch.equal(weight, best[name]) for name, weight in released.items())


def test_evaluation_without_a_verdict_counts_for_nothing_in_the_choice_of_the_best(tmp_path, caplog):
    def silent_at_first(prompts, completions, trainer_state, **columns):
        return [float(i % 2) if trainer_state.global_step > 1 else None for i in range(len(completions))]

    trainer = trained(
        tmp_path, silent_at_first, eval_dataset=prompts("test[:3]"), max_steps=3, early_stopping=1,
        eval_strategy="steps", eval_steps=1, save_strategy="best", load_best_model_at_end=True,
    )  # fmt: skip
    assert (trainer.state.global_step, trainer.state.best_global_step) == (3, 2)
    assert "after step 1 has no eval_win_rate, by which the best model is chosen" in caplog.text


def test_misspelt_metric_for_the_best_model_is_told_before_weights_are_read(tmp_path):
    with pytest.raises(ValueError, match=r"'win_rat' is nothing .* use one of win_rate, tie_rate, failure_rate\."):
        trained(
            tmp_path, eval_dataset=prompts("test[:3]"), eval_strategy="steps", eval_steps=1, save_strategy="best",
            metric_for_best_model="win_rat",
        )  # fmt: skip


def test_early_stopping_without_evaluations_is_refused(tmp_path):
    with pytest.raises(ValueError, match="early_stopping=2 counts evaluations"):
        config(tmp_path, early_stopping=2)
