"""Which weights a run releases, that its evaluation is of them, and what it says of both."""

import pytest
from datasets import Dataset
from test_rpo_trainer import PROMPTS, brightness, history, trainer_for

from arr_trl import RPOTrainer
from arr_trl.judges import JudgeFailureError, JudgeReward, JudgeStats, Verdict
from arr_trl.trainer import FlowTrainer
from arr_trl.trainer.card import _method, win_rate_by


DATASET = Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS[:2]])


class Broken(JudgeReward):
    """A judge that passes every check and answers nothing."""

    def check(self):
        pass

    def _compare(self, rows):
        failed = Verdict(failure="There is no such model.")
        return [failed] * len(rows), JudgeStats()


@pytest.fixture
def best_of_two(flux_pipeline, tmp_path):
    """A run of two steps whose first evaluation was the better one, and the prompts that each evaluation judged."""
    judged = []

    def reward(prompts, completions, trainer_state=None, **columns):
        if trainer_state is None or len(prompts) != 2 * len(DATASET) or not judging:
            return brightness(prompts, completions)
        judged.append(trainer_state.global_step)
        return [0.0, 1.0 if len(judged) == 1 else -1.0] * len(DATASET)

    judging = []
    trainer = trainer_for(
        flux_pipeline, tmp_path, reward, eval_dataset=DATASET, max_steps=2, eval_strategy="steps", eval_steps=1,
        save_strategy="steps", save_steps=1, load_best_model_at_end=True, metric_for_best_model="eval_win_rate",
    )  # fmt: skip
    evaluate = trainer.evaluate

    def tell(*args, **kwargs):
        judging.append(True)
        try:
            return evaluate(*args, **kwargs)
        finally:
            judging.clear()

    trainer.evaluate = tell
    trainer.train()
    return trainer, judged


def test_final_evaluation_is_logged_under_the_step_that_it_measured(best_of_two, tmp_path):
    trainer, judged = best_of_two
    rates = {entry["step"]: entry["eval_win_rate"] for entry in trainer.state.log_history if "eval_win_rate" in entry}
    assert rates == {1: 1.0, 2: 0.0}
    assert trainer.released == "step 1 of 2, the best by eval_win_rate"
    trainer.create_model_card()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "No evaluation was recorded" in card  # the one at hand was of step 2, whose weights are not released
    trainer.evaluate_release()
    assert len(judged) == 3
    assert [entry["step"] for entry in trainer.state.log_history if "eval_win_rate" in entry] == [1, 2, 1]
    assert trainer.state.global_step == 2
    trainer.create_model_card()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "The weights are those of step 1 of 2, the best by eval_win_rate." in card
    assert "| 2 | 0.0% |" in card  # the last step's own
    trainer.evaluate_release()
    assert len(judged) == 3  # it is of these weights already


def test_evaluation_of_the_last_step_is_not_drawn_again(flux_pipeline, tmp_path):
    trainer = trainer_for(
        flux_pipeline, tmp_path, brightness, eval_dataset=DATASET, max_steps=1, eval_strategy="steps", eval_steps=1
    )
    trainer.train()
    drawn = trainer.transformer_forwards
    trainer.evaluate_release()
    assert trainer.transformer_forwards == drawn
    assert trainer.evaluation.train_seconds is not None
    assert trainer.evaluation.win_rate_by == "Reward brightness"
    assert trainer.released == "step 1 of 1"
    assert len(history(trainer, "eval_win_rate")) == 1
    assert (tmp_path / "out" / "gallery" / trainer.args.adapter_subfolder / "1.png").is_file()


def test_what_trained_and_what_rewarded_have_their_own_names():
    class Other(RPOTrainer):
        pass

    assert _method(RPOTrainer, is_judged=True)["tags"] == [
        "reinforcement-learning", "rubric-policy-optimization", "auto-rubric",
    ]  # fmt: skip
    found = _method(Other, is_judged=False)
    assert found == {"method": "`Other`, which is made from `RPOTrainer`", "tags": ["reinforcement-learning"]}
    assert (
        _method(type("Own", (FlowTrainer,), {}), is_judged=True)["method"] == "`Own`, which is made from `FlowTrainer`"
    )
    assert win_rate_by([Broken(0.5, 128)]) == "Judge"
    assert win_rate_by([Broken(0.5, 128), brightness]) == "Judge (without brightness, which rewarded too)"
    assert win_rate_by([brightness]) == "Reward brightness"


def test_first_rollout_without_any_verdict_ends_the_run_with_the_reason(flux_pipeline, tmp_path):
    trainer = trainer_for(flux_pipeline, tmp_path, Broken(0.5, 128), max_steps=2)
    with pytest.raises(JudgeFailureError, match=r"first rollout\. The last failure was: There is no such model"):
        trainer.train()


def test_card_says_that_the_judge_failed_on_all(flux_pipeline, tmp_path):
    trainer = trainer_for(flux_pipeline, tmp_path, Broken(0.5, 128), eval_dataset=DATASET)
    trainer.evaluate()
    assert trainer.evaluation.win_rate is None
    trainer.create_model_card()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Judge: there is no verdict on any of the 2 prompts" in card
    assert "The last failure was: " in card
    assert "There is no such model." in card


@pytest.mark.parametrize(("settings", "words"), [
    ({"max_steps": 1}, "2 of 4 prompts are never seen with these settings"), ({"max_steps": 2}, None),
    ({"max_steps": -1, "num_train_epochs": 1}, None),
])  # fmt: skip
def test_prompts_that_are_never_seen_are_told(flux_pipeline, tmp_path, settings, words):
    told = trainer_for(flux_pipeline, tmp_path, **settings).batch_arithmetic()
    assert ("never seen" in told) == (words is not None)
    assert words is None or words in told
