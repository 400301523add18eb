"""The sentence that a report begins with."""

from dataclasses import replace

import pytest
from made_up_evaluation import made_up

from arr_trl.evaluation.answer import answers, more_prompts
from arr_trl.evaluation.records import PictureRecord
from arr_trl.evaluation.summary import summarize
from arr_trl.intervals import rate_interval


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("answer"), prompts=12)[0]


def judged(evaluation, rate, interval):
    (found,) = evaluation.comparisons
    return replace(evaluation, comparisons=[{**found, "win_rate": rate, "win_rate_ci": interval}])


@pytest.mark.parametrize(("rate", "interval", "sentence"), [
    (0.56, (0.51, 0.62), "trained is better than its base on these 12 prompts: the judge prefers it in 56% (51 to 62)."),
    (0.40, (0.31, 0.49), "trained is worse than its base on these 12 prompts: the judge prefers it in 40% (31 to 49)."),
    (0.50, (0.25, 0.75), "These 12 prompts show no difference between trained and its base: 50% (25 to 75)."),
    (None, None, "The judge gave no verdict on any pair of base and trained, so that nothing is known."),
])  # fmt: skip
def test_it_says_who_is_better_only_where_the_interval_does(evaluation, rate, interval, sentence):
    assert answers(judged(evaluation, rate, interval)) == [sentence]


def test_it_says_how_many_more_prompts_would_tell(evaluation):
    outcomes = [1] * 7 + [0] * 5
    interval, rate = rate_interval(outcomes), 7 / 12
    (said,) = answers(judged(evaluation, rate, interval))
    more = more_prompts(rate, interval, 12)
    assert f"; about {more} more would, if that stays." in said
    # so many it takes: the same outcomes again and again, until the interval leaves one half
    times = next(n for n in range(1, 100) if rate_interval(outcomes * n)[0] > 0.5)
    assert 12 * (times - 2) <= more <= 12 * times


@pytest.mark.parametrize(("outcomes", "few"), [([1] * 4, 5), ([0] * 3, 5)])
def test_an_interval_that_ends_at_0_or_1_has_a_number_too(outcomes, few):
    rate = sum(outcomes) / len(outcomes)
    more = more_prompts(rate, rate_interval(outcomes), len(outcomes))
    assert more is None or 1 <= more <= few


def test_nearly_one_half_has_no_number():
    assert more_prompts(0.5, (0.4, 0.6), 100) is None
    assert more_prompts(0.501, (0.4, 0.6), 100) is None


def test_ground_truths_are_told_with_the_difference_and_its_interval(evaluation, tmp_path):
    pairs = made_up(tmp_path, prompts=12)[1]
    # of 12 prompts the base meets 3, the adapter these and 6 more
    pictures = [
        PictureRecord(i, 0, name, checks={"blue": i < many, "bright": True})
        for i in range(12)
        for name, many in (("base", 3), ("trained", 9))
    ]
    models, comparisons, _ = summarize(["base", "trained"], pairs, pictures, None)
    rate = comparisons[0]["success_all"]
    assert (rate["first"], rate["second"], rate["difference"]) == (0.25, 0.75, 0.5)
    low, high = rate["difference_ci"]
    assert 0.1 < low < 0.5 < high < 0.8
    level = comparisons[0]["success"]["bright"]
    assert level["difference"] == 0
    assert level["difference_ci"][0] < 0 < level["difference_ci"][1]
    said = answers(replace(evaluation, models=models, comparisons=comparisons))
    assert said[-1] == (
        "All criteria are met by 75.0% of the pictures of trained, 25.0% of its base: +50.0 points "
        f"({100 * low:+.0f} to {100 * high:+.0f})."
    )
