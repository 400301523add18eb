import math

import pytest

from arr_trl.evaluation import wilson_interval, win_rate_from_rewards, win_rate_from_verdicts
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


def test_interval_agrees_with_a_published_example():
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263
    low, high = wilson_interval(81 / 263, 263)
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_interval_covers_the_truth_about_95_times_in_100():
    count, truth = 40, 0.7
    covered = 0.0
    for wins in range(count + 1):
        low, high = wilson_interval(wins / count, count)
        covered += math.comb(count, wins) * truth**wins * (1 - truth) ** (count - wins) * (low <= truth <= high)
    assert covered == pytest.approx(0.95, abs=0.02)
