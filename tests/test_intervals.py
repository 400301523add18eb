import math

import numpy as np
import pytest

from arr_trl.intervals import _t_quantile, bootstrap_interval, rate_interval, wilson_interval


def test_pictures_of_one_prompt_count_as_one_when_they_always_agree():
    rng = np.random.default_rng(0)
    of_prompt = rng.integers(2, size=50)
    values, prompts = np.repeat(of_prompt, 8), np.repeat(np.arange(50), 8)
    for interval in (bootstrap_interval, rate_interval):
        low, high = interval(values, prompts)
        assert (low, high) == pytest.approx(interval(of_prompt), abs=0.02)
        independent = interval(values)
        assert high - low > 2 * (independent[1] - independent[0])


def test_interval_holds_the_truth_as_often_as_it_says_when_prompts_differ():
    rng = np.random.default_rng(0)
    held, evaluations = 0, 400
    for _ in range(evaluations):
        chance = np.repeat(rng.beta(1.2, 0.8, size=40), 3)  # of each prompt; .6 on average
        low, high = rate_interval(rng.random(120) < chance, np.repeat(np.arange(40), 3))
        held += low <= 0.6 <= high
    assert held / evaluations >= 0.93


def test_even_match_holds_one_half_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        outcomes = rng.choice([0, 0.5, 1], p=[0.3, 0.4, 0.3], size=60)
        low, high = rate_interval(outcomes)
        held += low <= 0.5 <= high
    assert held / 400 >= 0.93


@pytest.mark.parametrize("truth", [0.03, 0.9, 0.97])
@pytest.mark.parametrize(
    ("prompts", "pictures", "alike"), [(12, 1, False), (30, 1, False), (30, 3, False), (30, 4, True)]
)
def test_rate_near_its_ends_is_held_as_often_as_the_interval_says(truth, prompts, pictures, alike):
    # of few prompts most are all alike there: an interval of what was seen alone would hold the truth one time in two
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(600):
        won = rng.random((prompts, 1 if alike else pictures)) < truth
        outcomes = np.broadcast_to(won, (prompts, pictures)).ravel()
        low, high = rate_interval(outcomes, np.repeat(np.arange(prompts), pictures))
        held += low <= truth <= high
    assert held / 600 >= 0.91


def test_independent_outcomes_have_wilsons_interval():
    for wins in (0, 1, 7, 19, 20):
        outcomes = [1.0] * wins + [0.0] * (20 - wins)
        assert rate_interval(outcomes) == pytest.approx(wilson_interval(wins / 20, 20))


def test_ties_alone_do_not_make_an_even_match_certain():
    low, high = rate_interval([0.5] * 30)
    assert high - low > 0.05  # one game in ten may be decided where none of thirty was
    assert high - low < 0.2


def test_missing_values_are_left_out():
    for interval in (bootstrap_interval, rate_interval):
        assert interval([1, 0, 1, np.nan], [0, 1, 2, 3]) == interval([1, 0, 1], [0, 1, 2])
        assert interval([np.nan, np.nan]) is None


def test_interval_has_width_when_every_outcome_is_the_same():
    assert rate_interval([1.0] * 30) == pytest.approx(wilson_interval(1.0, 30))
    # three pictures of a prompt that agree are one
    assert rate_interval([0.0] * 90, np.repeat(np.arange(30), 3)) == pytest.approx(wilson_interval(0.0, 30))
    assert bootstrap_interval([7.0] * 30) is None


def test_one_prompt_says_next_to_nothing():
    low, high = rate_interval([1, 0], [0, 0])
    assert high - low > 0.8
    assert bootstrap_interval([7.0]) is None


@pytest.mark.parametrize(("degrees", "published"), [(1, 12.706), (4, 2.776), (10, 2.228), (30, 2.042), (100, 1.984)])
def test_quantile_agrees_with_the_tables(degrees, published):
    assert _t_quantile(degrees) == pytest.approx(published, rel=0.01)


def test_interval_of_a_few_prompts_is_as_wide_as_students():
    for prompts, quantile in ((8, 2.365), (12, 2.201)):  # of 7 and 11 degrees, published
        values = np.random.default_rng(0).normal(size=prompts)
        low, high = bootstrap_interval(values)
        assert (high - low) / 2 == pytest.approx(quantile * values.std(ddof=1) / np.sqrt(prompts), rel=0.05)


def test_interval_does_not_depend_on_the_order_in_which_prompts_were_found():
    rng = np.random.default_rng(2)
    values, prompts = rng.choice([0, 0.5, 1], size=90), np.repeat(np.arange(30), 3)
    shuffled = rng.permutation(90)
    for interval in (bootstrap_interval, rate_interval):
        assert interval(values[shuffled], prompts[shuffled]) == interval(values, prompts)
        assert interval(values, 30 - prompts) == interval(values, prompts)


def test_wilson_interval_agrees_with_a_published_example():
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263
    low, high = wilson_interval(81 / 263, 263)
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_wilson_interval_covers_the_truth_about_95_times_in_100():
    count, truth = 40, 0.7
    covered = 0.0
    for wins in range(count + 1):
        low, high = wilson_interval(wins / count, count)
        covered += math.comb(count, wins) * truth**wins * (1 - truth) ** (count - wins) * (low <= truth <= high)
    assert covered == pytest.approx(0.95, abs=0.02)
