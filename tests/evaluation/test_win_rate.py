import math

import numpy as np
import pytest

from arr_trl.evaluation import rate_interval, win_rate_from_rewards, win_rate_from_verdicts
from arr_trl.evaluation.records import PairRecord
from arr_trl.evaluation.summary import compare
from arr_trl.evaluation.win_rate import win_rate
from arr_trl.judges.verdict import Verdict


def test_win_counts_one_and_tie_one_half_and_failures_are_left_out():
    rate = win_rate_from_rewards([(0, 1), (0, 1), (1, 0), (1, 1), (None, 1), (0, math.nan)])
    assert rate.win_rate == pytest.approx(2.5 / 4)
    assert rate.tie_rate == pytest.approx(1 / 4)
    assert rate.failure_rate == pytest.approx(2 / 6)
    assert rate.prompts == 6


def test_verdicts_tell_a_tie_from_a_failure_and_give_the_order_consistency():
    verdicts = [
        Verdict(winner=1, consistent=True),
        Verdict(winner=0, consistent=True),
        Verdict(winner=None, consistent=False),
        Verdict(failure="The server did not answer."),
    ]
    rate = win_rate_from_verdicts(verdicts)
    assert rate.win_rate == pytest.approx(0.5)
    assert rate.tie_rate == pytest.approx(1 / 3)
    assert rate.failure_rate == pytest.approx(1 / 4)
    assert rate.order_consistency == pytest.approx(2 / 3)


def test_nothing_judged_gives_no_rate_rather_than_a_number():
    rate = win_rate_from_rewards([(None, 1), (0, None)])
    assert (rate.win_rate, rate.win_rate_ci, rate.tie_rate) == (None, None, None)
    assert rate.failure_rate == 1


def test_no_prompts_is_refused():
    with pytest.raises(ValueError, match="at least one prompt"):
        win_rate_from_rewards([])


@pytest.mark.parametrize("winner", [0, 1, None])
def test_interval_has_width_when_every_outcome_is_the_same(winner):
    low, high = win_rate_from_verdicts([Verdict(winner=winner)] * 20).win_rate_ci
    assert 0 <= low < high <= 1
    assert high - low > 0.1


def test_run_and_command_say_the_same_of_the_same_outcomes_in_whatever_order_they_were_found():
    rng = np.random.default_rng(0)
    for prompts in (1, 2, 7, 40):
        rewards = [(0.0, float(trained)) for trained in rng.choice([-1, 0, 1, np.nan], size=prompts)]
        of_run = win_rate_from_rewards(rewards)
        pairs = [
            PairRecord(
                i,
                0,
                ("base", "ARR"),
                winner=None if trained == 0 else int(trained > 0) if trained == trained else None,
                failure=None if trained == trained else "No reply.",
            )
            for i, (_, trained) in enumerate(rewards)
        ]
        of_command = compare(pairs)
        for name in ("win_rate", "win_rate_ci", "tie_rate", "failure_rate"):
            assert of_command[name] == getattr(of_run, name)
        assert win_rate_from_rewards([rewards[i] for i in rng.permutation(prompts)]) == of_run


def test_interval_of_several_pictures_of_a_prompt_draws_the_prompt_whole():
    outcomes, prompts = [1.0, 1.0, 0.0, 0.0] * 10, [i // 2 for i in range(40)]
    clustered, independent = win_rate(outcomes, prompts), win_rate(outcomes)
    assert (clustered.prompts, independent.prompts) == (20, 40)
    assert clustered.win_rate_ci == rate_interval(outcomes, prompts)
    width = [high - low for low, high in (clustered.win_rate_ci, independent.win_rate_ci)]
    assert width[0] > 1.3 * width[1]
