"""Losses and rewards of judges against numbers that were made by other code, in float64."""

import json
from pathlib import Path
from statistics import fmean

import pytest
import torch

from arr_trl.judge_training import fidelity_rewards, first_token_losses, won_comparisons


VECTORS = json.loads((Path(__file__).parent / "judge_vectors.json").read_text())


def test_the_first_token_has_its_share_of_the_loss_of_an_answer():
    vector = VECTORS["paco_loss"]
    entropies = vector["cross_entropies_first_token_first"]
    log_probs, mask = torch.zeros(3, 9, dtype=torch.float64), torch.zeros(3, 9, dtype=torch.bool)
    for row, (answer, start) in enumerate(zip(entropies, (2, 0, 3), strict=True)):  # prompts differ in length
        log_probs[row, start : start + len(answer)] = -torch.tensor(answer, dtype=torch.float64)
        mask[row, start : start + len(answer)] = True
    losses = first_token_losses(log_probs, mask, vector["alpha"])
    assert losses.tolist() == pytest.approx(vector["intended_per_sequence"], abs=1e-12)
    assert losses.mean().item() == pytest.approx(vector["intended"], abs=1e-12)


def test_an_answer_of_one_token_has_all_of_the_loss():
    losses = first_token_losses(torch.tensor([[0.0, -2.0]]), torch.tensor([[False, True]]), 0.1)
    assert losses.item() == pytest.approx(2.0)


def test_rewards_of_traces_are_the_comparisons_that_they_win():
    vector = VECTORS["gcpo"]
    better, worse = won_comparisons(vector["scores_better"], vector["scores_worse"])
    assert better == pytest.approx(vector["rewards_better"])
    assert worse == pytest.approx(vector["rewards_worse"])
    assert fmean(better) == fmean(worse) == vector["wins_over_n_squared"]


def test_a_trace_that_cannot_be_read_is_compared_with_nobody():
    vector = VECTORS["gcpo"]["with_unreadable_traces"]
    better, worse = won_comparisons(vector["scores_better"], vector["scores_worse"])
    for found, expected in ((better, vector["rewards_better"]), (worse, vector["rewards_worse"])):
        assert [r is None for r in found] == [r is None for r in expected]
        assert [r for r in found if r is not None] == pytest.approx([r for r in expected if r is not None])
    assert fmean(r for r in better if r is not None) == pytest.approx(fmean(r for r in worse if r is not None))


def test_a_pair_with_one_readable_trace_on_a_side_is_skipped():
    assert won_comparisons([8.0, None, None], [1.0, 2.0, 3.0]) == ([None] * 3, [None] * 3)


def test_fidelity_is_that_of_thurstones_model():
    vector = VECTORS["thurstone_fidelity"]
    rewards = fidelity_rewards(vector["scores"], vector["mos"], vector["gamma"])
    assert rewards[vector["image"]] == pytest.approx(vector["rewards"], abs=1e-12)


def test_a_picture_that_cannot_be_compared_has_no_rewards():
    rewards = fidelity_rewards([[3.0, None, 4.0], [None, None, 2.0], [1.0, 2.0, None]], [3.0, 2.0, 1.0])
    assert rewards[1] == [None] * 3  # one score has no variance
    assert rewards[0][1] is None
    assert rewards[2][2] is None
    assert all(r is not None for r in (rewards[0][0], rewards[0][2], rewards[2][0]))
    assert fidelity_rewards([[3.0, 4.0]], [1.0]) == [[None, None]]
