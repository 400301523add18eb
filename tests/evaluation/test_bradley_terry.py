import numpy as np
import pytest

from arr_trl.evaluation import bradley_terry


def games(strengths, count, seed=0):
    rng = np.random.default_rng(seed)
    names = list(strengths)
    pairs, outcomes, prompts = [], [], []
    for prompt in range(count):
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                chance = 1 / (1 + np.exp(strengths[first] - strengths[second]))
                pairs.append((first, second))
                outcomes.append(float(rng.random() < chance))
                prompts.append(prompt)
    return names, pairs, outcomes, prompts


def test_strengths_come_back_within_their_intervals():
    truth = {"base": 0.0, "a": 1.0, "b": -0.5}
    ranking = bradley_terry(*games(truth, 400, seed=2))
    assert [found.model for found in ranking] == ["a", "base", "b"]
    for found in ranking:
        low, high = found.strength_ci
        assert low <= truth[found.model] <= high
    assert ranking[0].beats_first == pytest.approx(1 / (1 + np.exp(-ranking[0].strength)))


def test_two_models_give_the_odds_of_the_win_rate():
    outcomes = [1.0] * 75 + [0.0] * 25
    ranking = bradley_terry(["base", "a"], [("base", "a")] * 100, outcomes, range(100))
    assert ranking[0].strength == pytest.approx(np.log(75.5 / 25.5), abs=1e-3)


def test_a_model_that_never_loses_has_a_finite_strength():
    ranking = bradley_terry(["base", "a"], [("base", "a")] * 20, [1.0] * 20, range(20))
    assert 3 < ranking[0].strength < 5
    low, high = ranking[0].strength_ci
    assert low < 3  # of 20 games the truth may well have lost one in ten
    assert high - low > 1


def test_failures_are_left_out_and_nothing_but_failures_is_refused():
    pairs, nan = [("base", "a")] * 3, float("nan")
    assert bradley_terry(["base", "a"], pairs, [1.0, 0.0, nan], range(3))[0].strength == pytest.approx(0.0)
    with pytest.raises(ValueError, match="at least one comparison with a verdict"):
        bradley_terry(["base", "a"], pairs, [nan] * 3, range(3))
