"""What judges may cost: a run ends before the rollout that would pass it, with what it has trained."""

import logging
from types import SimpleNamespace

import pytest
from test_diffusion_nft_trainer import build, config
from transformers import TrainerControl, TrainerState

from arr_trl.judges import JudgeReward, JudgeStats, Verdict
from arr_trl.trainer.budget import BudgetCallback


class Costly(JudgeReward):
    """Four questions for a pair, of 1,000 tokens in and 10 out each."""

    def __init__(self):
        super().__init__(None, 1)
        self.asked = 0

    def check(self):
        pass

    def _compare(self, rows):
        questions = 4 * len(rows)
        self.asked += questions
        stats = JudgeStats(calls=questions, prompt_tokens=1000 * questions, completion_tokens=10 * questions)
        return [Verdict(winner=0, ranks=(1.0, 2.0)) for _ in rows], stats


def trained(flux_pipeline, tmp_path, **limits):
    judge = Costly()
    trainer = build(flux_pipeline, tmp_path, judge, max_steps=4, logging_steps=1, num_generations=2, **limits)
    trainer.train()
    return trainer, judge


@pytest.fixture
def of_rollout(flux_pipeline, tmp_path):
    """Questions of a rollout, and steps it takes."""
    args = config(tmp_path, num_generations=2)
    return 4 * args.prompts_per_rollout, args.steps_per_rollout / args.gradient_accumulation_steps


@pytest.mark.parametrize("what", ["questions", pytest.param("cost", marks=pytest.mark.slow)])
def test_a_run_ends_before_the_rollout_that_would_pass_what_was_allowed(
    flux_pipeline, tmp_path, caplog, of_rollout, what
):
    questions, steps = of_rollout
    of_question = (1000 * 2.0 + 10 * 5.0) / 1e6
    most = {
        "questions": {"max_questions": int(2.5 * questions)},
        "cost": {"max_cost": 2.5 * questions * of_question, "price_in": 2.0, "price_out": 5.0},
    }[what]
    with caplog.at_level(logging.WARNING):
        trainer, judge = trained(flux_pipeline, tmp_path, **most)
    assert judge.asked == 2 * questions
    assert trainer.state.global_step == 2 * steps  # the rollouts that were paid for are trained on
    assert trainer.last_checkpoint is not None
    assert f"would pass max_{what}=" in caplog.text
    logs = [entry for entry in trainer.state.log_history if "judge/questions_so_far" in entry]
    assert [entry["judge/questions_so_far"] for entry in logs] == [questions, 2 * questions]
    assert logs[-1]["judge/questions_to_come"] == pytest.approx(2 * questions * (4 / (2 * steps) - 1))
    if what == "cost":
        assert logs[-1]["judge/cost_so_far"] == pytest.approx(2 * questions * of_question)


def test_what_is_just_enough_ends_no_run(tmp_path):
    trainer = SimpleNamespace(
        _step=3,
        _metrics={"train": {}},
        metric_totals={"judge/calls": 30.0, "judge/prompt_tokens": 0, "judge/completion_tokens": 0},
    )
    state = TrainerState(max_steps=12, global_step=3)
    for most, ends in ((40, False), (39, True)):
        control = TrainerControl()
        BudgetCallback(trainer).on_step_end(config(tmp_path, max_questions=most), state, control)
        assert control.should_training_stop == control.should_save == ends
    state.global_step = 12  # at its end anyway
    control = TrainerControl()
    BudgetCallback(trainer).on_step_end(config(tmp_path, max_questions=30), state, control)
    assert not control.should_training_stop
    assert trainer._metrics["train"]["judge/questions_to_come"] == [0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_cost": 5.0}, "max_cost=5 needs `price_in` and `price_out`"),
        ({"price_in": 1.0}, "`price_in` and `price_out` go together"),
        ({"max_questions": 0}, "max_questions=0 has to be at least 1"),
        ({"canary_every": 0}, "canary_every=0 has to be at least 1"),
        ({"canary_tolerance": -0.1}, "canary_tolerance=-0.1 has to be 0 or greater"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        config(tmp_path, **settings)
