"""The two selections: diverse criteria, against exhaustive search, and weights, against a known rule."""

from itertools import combinations

import numpy as np
import pytest

from arr_trl.autorubric.embeddings import hashed_tfidf
from arr_trl.autorubric.select_diverse import coding_rate, select_diverse
from arr_trl.autorubric.select_weights import learn_weights


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_coding_rate_is_the_sum_over_singular_values():
    rows = unit(np.random.default_rng(0).normal(size=(5, 8)))
    singular = np.linalg.svd(rows, compute_uv=False)
    assert coding_rate(rows) == pytest.approx(np.log(1 + singular**2 / (0.01 * 5)).sum())
    assert coding_rate(np.repeat(rows[:1], 5, axis=0)) == pytest.approx(coding_rate(rows[:1]))


@pytest.mark.parametrize(("count", "size"), [(7, 2), (8, 3), (9, 4), (10, 5)])
def test_greedy_comes_close_to_exhaustive_search(count, size):
    draws = np.random.default_rng(count)
    shares = []
    for _ in range(30):
        rows = unit(draws.normal(size=(count, 4)))
        best = max(coding_rate(rows[list(some)]) for some in combinations(range(count), size))
        shares.append(coding_rate(rows[select_diverse(rows, size)]) / best)
    assert max(shares) <= 1 + 1e-12
    assert min(shares) > 0.9
    assert np.mean(shares) > 0.97


def test_of_clusters_greedy_takes_one_each_as_exhaustive_search_does():
    draws = np.random.default_rng(0)
    centres = np.eye(4)
    rows = unit(np.concatenate([centre + 0.02 * draws.normal(size=(3, 4)) for centre in centres]))
    taken = select_diverse(rows, 4)
    assert sorted(i // 3 for i in taken) == [0, 1, 2, 3]
    best = max(coding_rate(rows[list(some)]) for some in combinations(range(12), 4))
    assert coding_rate(rows[taken]) > 0.999 * best


def test_the_seed_decides_between_equals_and_nothing_else():
    same = np.ones((6, 3))
    assert len({select_diverse(same, 1, seed=seed)[0] for seed in range(20)}) > 1
    rows = unit(np.random.default_rng(0).normal(size=(40, 16)))
    assert select_diverse(rows, 10, seed=3) == select_diverse(rows, 10, seed=3)


def test_it_stops_when_batches_add_nothing():
    rows = np.repeat(np.eye(8), 20, axis=0)
    taken = select_diverse(rows, 160)
    assert {i // 20 for i in taken} == set(range(8))
    assert len(taken) < 160


def test_hashed_tfidf_tells_wordings_apart():
    rows = unit(hashed_tfidf(["The lamp is lit.", "The lamp is lit!", "手有五根手指。"]))
    assert rows[0] @ rows[1] > 0.7
    assert rows[0] @ rows[2] < 0.1


def pairs_of(rule, count=120, wrong=0.0, seed=0):
    draws = np.random.default_rng(seed)
    differences = draws.integers(-1, 2, (count, len(rule))).astype(float)
    scores = differences @ np.array(rule)
    differences, scores = differences[scores != 0], scores[scores != 0]
    winners = (scores < 0).astype(int)
    return differences, np.where(draws.random(len(winners)) < wrong, 1 - winners, winners)


@pytest.mark.parametrize("wrong", [0.0, 0.1])
def test_weights_order_criteria_as_the_rule_does_and_drop_the_rest(wrong):
    differences, winners = pairs_of([4.0, 0.0, 2.0, 0.0], wrong=wrong)
    found = learn_weights(differences, winners)
    assert found.weights[0] > found.weights[2] > 0
    assert found.weights[1] == found.weights[3] == 0
    assert found.cv_accuracy > (0.99 if not wrong else 0.85)
    assert np.mean([w for w in found.weights if w]) == pytest.approx(1, abs=0.01)


def test_a_criterion_that_speaks_for_the_loser_is_dropped_not_inverted():
    differences, winners = pairs_of([3.0, -2.0, 1.5])
    found = learn_weights(differences, winners)
    assert found.weights[1] == 0
    assert min(found.weights) == 0


def test_the_order_in_which_images_stand_does_not_matter():
    differences, winners = pairs_of([2.0, 1.0, 0.0])
    turned = np.where(np.arange(len(winners)) % 2, 1, -1)
    again = learn_weights(differences * turned[:, None], np.where(turned < 0, 1 - winners, winners))
    assert again.weights == pytest.approx(learn_weights(differences, winners).weights, abs=0.02)


def test_there_are_no_weights_without_evidence():
    differences, winners = pairs_of([1.0])
    assert learn_weights(differences[:9], winners[:9]) is None
    assert learn_weights(np.zeros((40, 2)), np.zeros(40, dtype=int)) is None
    assert learn_weights(-differences, winners) is None
