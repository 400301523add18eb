"""Measures of agreement against numbers that other code made, see judges_vectors.json."""

import json
from pathlib import Path

import numpy as np
import pytest

from arr_trl.evaluation.agreement import cohen_kappa, fit_tie_threshold, ranking_measures, tie_threshold_accuracy
from arr_trl.evaluation.judge_measures import JudgeOutcome, all_measures


VECTORS = json.loads(Path(__file__).with_name("judges_vectors.json").read_text())


def ranks(order, items):
    return [order.index(item) + 1 for item in items]


def test_kappa_takes_chance_off():
    case = VECTORS["cohen_kappa"]
    assert cohen_kappa(case["judge"], case["human"]) == pytest.approx(case["kappa"])


def test_kappa_of_one_word_is_not_defined():
    assert cohen_kappa(["A"] * 3, ["A"] * 3) is None
    assert cohen_kappa([], []) is None


def test_tie_band_is_the_one_that_meets_most_labels():
    case = VECTORS["tie_threshold"]
    threshold, accuracy = fit_tie_threshold(case["differences"], case["labels"])
    assert (threshold, accuracy) == (case["threshold"], case["accuracy"])
    assert tie_threshold_accuracy(case["differences"], case["labels"], 0) == case["accuracy_without_ties"]
    with pytest.raises(ValueError, match="no differences"):
        fit_tie_threshold([], [])


def test_rank_correlation_is_that_of_ranks():
    case = VECTORS["rank_metrics"]
    found = ranking_measures(ranks(case["truth"], case["truth"]), ranks(case["found"], case["truth"]))
    for name in ("position_accuracy", "kendall", "spearman", "footrule_distance", "top1", "bottom1"):
        assert found[name] == pytest.approx(case[name]), name


def test_official_rank_correlation_is_that_of_item_numbers():
    case = VECTORS["rank_metrics_of_orders"]
    found = ranking_measures(ranks(case["order_true"], range(3)), ranks(case["order_found"], range(3)))
    for name in ("position_accuracy", "kendall", "spearman", "footrule_distance", "top1", "bottom1"):
        assert found[name] == pytest.approx(case[name]), name
    assert found["kendall_official"] == pytest.approx(case["published_code_kendall_of_the_two_order_lists"])


def test_ranking_that_is_level_throughout_has_no_correlation():
    assert ranking_measures([1, 2, 3], [2, 2, 2])["kendall"] is None


def outcome(forward, reversed_):
    """A pair whose first image is the better one, by whether each order was right, `None` for no answer."""
    answers = tuple(None if right is None else int(not right) for right in (forward, reversed_))
    return JudgeOutcome(forward, reversed_, 0, 0, 0, invalid=answers.count(None), answers=answers)


def test_both_orders_are_counted_by_each_rule():
    case = VECTORS["both_orders"]
    both = zip(case["forward_right_null_is_no_answer"], case["reverse_right"], strict=True)
    found = all_measures([outcome(*orders) for orders in both])
    assert found["accuracy_answered"] == pytest.approx(case["mmrb2_accuracy_over_the_answered"])
    assert found["accuracy_mean"] == pytest.approx(case["accuracy_mean_no_answer_is_wrong"])
    assert found["accuracy_consistent"] == pytest.approx(case["accuracy_consistent"])
    assert found["accuracy_answered_forward"] == pytest.approx(2 / 3)


def test_a_tie_counts_as_an_answer_and_is_wrong():
    tied = JudgeOutcome(None, None, 0, 0, 2, 0, answers=("tie", "tie"))
    assert all_measures([tied])["accuracy_answered"] == 0


def labelled_tie(*answers, lead=None):
    return JudgeOutcome(None, None, 0, 0, answers.count("tie"), 0, label=None, answers=answers, lead=lead)


def test_labelled_ties_count_where_three_answers_do_and_nowhere_else():
    pairs = [outcome(True, True), outcome(False, True), labelled_tie("tie", "tie"), labelled_tie(0, "tie")]
    found = all_measures(pairs)
    assert found["accuracy_3way"] == 0.5
    assert found["accuracy_forward"] == 0.5
    assert found["accuracy_mean"] == 0.75
    assert found["order_consistency"] == 0.5
    # both place-blind: of 8 answers 6 are right; "first", "second", "tie" were labelled 2, 2, 4 and said 2.. of 8
    assert -1 < found["kappa"] < 1


def test_two_wrong_names_for_a_level_pair_are_not_one_answer():
    assert all_measures([labelled_tie(0, 1)])["order_consistency"] == 0
    assert all_measures([labelled_tie(0, 0)])["order_consistency"] == 1


def test_kappa_does_not_depend_on_which_image_stands_first_in_the_data():
    always_right = [JudgeOutcome(True, True, 1, 2, 0, 0, answers=(0, 0))] * 5
    assert all_measures(always_right)["kappa"] == 1
    always_first = [JudgeOutcome(True, False, 2, 2, 0, 0, answers=(0, 1))] * 5
    assert all_measures(always_first)["kappa"] == 0


def test_tie_band_is_fitted_on_one_half_and_measured_on_the_other():
    case = VECTORS["tie_threshold"]
    pairs = []
    for difference, label in zip(case["differences"], case["labels"], strict=True):
        winner = {1: 0, -1: 1, 0: None}[label]
        # on the other half the opposite is true, so that what was fitted there would be seen
        pairs += [
            JudgeOutcome(None, None, 0, 0, 0, 0, label=winner, answers=(0, 0), lead=difference),
            JudgeOutcome(None, None, 0, 0, 0, 0, label=winner, answers=(0, 0), lead=0.1),
        ]
    found = all_measures(pairs)
    assert found["tie_band"] == case["threshold"]
    assert found["accuracy_tie_band"] == 0.5
    assert "accuracy_tie_band" not in all_measures([labelled_tie("tie", "tie")] * 4)


def test_macro_accuracy_counts_every_category_alike():
    pairs = [JudgeOutcome(True, True, 0, 0, 0, 0, category="often")] * 9
    pairs += [JudgeOutcome(False, True, 0, 0, 0, 0, category="rare")]
    found = all_measures(pairs)
    assert found["accuracy_mean"] == 0.95
    assert found["accuracy_macro"] == pytest.approx(0.75)
    low, high = found["accuracy_macro_ci"]
    assert low <= 0.75 <= high


def test_a_group_that_is_not_whole_is_left_out():
    in_group = [JudgeOutcome(True, True, 0, 0, 0, 0, answers=(0, 0), group="a", group_size=3)] * 2
    found = all_measures([*in_group, outcome(False, False)])
    assert found["groups_left_out"] == 1
    assert found["accuracy_group"] == 0  # of the pair that belongs to none


def test_fitted_band_is_the_best_of_all_there_could_be():
    rng = np.random.default_rng(0)
    for _ in range(30):
        n = int(rng.integers(1, 12))
        differences, labels = rng.integers(-3, 4, n) / 2, rng.integers(-1, 2, n)
        threshold, accuracy = fit_tie_threshold(differences, labels)
        tried = {t: tie_threshold_accuracy(differences, labels, t) for t in (0, 0.5, 1, 1.5, 2)}
        assert accuracy == pytest.approx(max(tried.values()))
        assert tried[threshold] == accuracy
        assert not any(tried[t] == accuracy for t in tried if t < threshold)
