"""What becomes of missing rewards, ties and processes in the estimators that compare within a group."""

import math

import pytest
import torch

from arr_trl.objectives import (
    filter_groups,
    group_advantages,
    log_tame,
    pareto_front,
    win_rates,
)


nan = math.nan
SCALES = ["group", "batch", "none"]
AGGREGATIONS = ["sum_then_normalize", "normalize_then_sum"]


def rewards(*groups) -> torch.Tensor:
    return torch.tensor(groups, dtype=torch.float64)


@pytest.mark.parametrize("scale", SCALES)
def test_candidate_without_a_reward_is_left_out_and_the_others_are_compared(scale):
    with_gap = group_advantages(rewards([0.3, nan, 0.6, 0.1], [1.0, 0.0, nan, nan]), scale)
    assert with_gap.isnan().tolist() == [[False, True, False, False], [False, False, True, True]]
    torch.testing.assert_close(with_gap.nansum(1), torch.zeros(2, dtype=torch.float64))
    if scale == "group":
        torch.testing.assert_close(with_gap[0, [0, 2, 3]], group_advantages(rewards([0.3, 0.6, 0.1]), scale)[0])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("group", [[0.3, nan, nan], [nan, nan, nan], [0.5, 0.5, 0.5], [0.5, nan, 0.5]])
def test_group_that_says_nothing_is_masked_not_scored(scale, group):
    advantages = group_advantages(rewards([0.2, 0.9, 0.4], group), scale)
    assert advantages[1].isnan().all()
    assert not advantages[0].isnan().any()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("scale", SCALES)
def test_one_reward_that_all_share_does_not_mask_the_other(scale, aggregation):
    # .1 three times has a mean that rounds: divided by 1e-4 that would be a preference
    two = rewards([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]], [[0.1, 0.7], [0.1, 0.7], [0.1, 0.7]])
    advantages = group_advantages(two, scale, aggregation)
    assert advantages[0].argsort().tolist() == [0, 1, 2]
    assert advantages[1].isnan().all()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_function_that_failed_for_a_whole_group_is_left_out_of_it(aggregation):
    answered = rewards([[1.0, 5.0], [0.0, 6.0], [2.0, 9.0]], [[1.0, nan], [0.0, nan], [3.0, nan]])
    advantages = group_advantages(answered, "none", aggregation)
    alone = group_advantages(answered[..., :1], "none", aggregation)
    torch.testing.assert_close(advantages[1], alone[1])
    # one answer compares with nothing
    answered[1, 2, 1] = 7.0
    torch.testing.assert_close(group_advantages(answered, "none", aggregation), advantages)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_candidate_that_lacks_one_of_its_rewards_is_left_out(aggregation):
    answered = rewards([[1.0, 5.0], [0.0, nan], [2.0, 9.0], [4.0, 1.0]])
    advantages = group_advantages(answered, "group", aggregation)
    assert advantages.isnan().tolist() == [[False, True, False, False]]
    torch.testing.assert_close(
        advantages[0, [0, 2, 3]], group_advantages(answered[:, [0, 2, 3]], "group", aggregation)[0]
    )


def test_candidates_that_no_two_of_share_all_rewards_are_masked():
    assert group_advantages(rewards([[1.0, nan], [2.0, nan], [nan, 1.0], [nan, 2.0]])).isnan().all()


def test_batch_std_counts_groups_that_are_tied():
    batch = rewards([0.2, 0.9], [0.5, 0.5])
    expected = (batch[0] - batch[0].mean()) / (batch.std(correction=0) + 1e-4)
    torch.testing.assert_close(group_advantages(batch, "batch")[0], expected)


def test_large_rewards_that_hardly_differ_keep_their_std():
    batch = 1000 + rewards([0.2, 0.9, 0.4], [1.0, 0.5, 0.75])
    torch.testing.assert_close(group_advantages(batch), group_advantages(batch - 1000), rtol=1e-6, atol=0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_std_over_two_processes_is_that_of_the_joined_batch(aggregation):
    joined = torch.randn(6, 4, 2, generator=torch.Generator().manual_seed(0))
    joined[1, 2, 0] = joined[4, 0] = nan
    weights = torch.tensor([1.0, 0.3])

    def on_two_processes(function):
        halves, sums = (joined[:2], joined[2:]), []
        for half in halves:
            function(half, lambda tensor: sums.append(tensor) or tensor)
        assert [tensor.dtype for tensor in sums] == [torch.float64] * 2
        return torch.cat([function(half, lambda tensor: sums[0] + sums[1]) for half in halves])

    def advantages(part, all_reduce=None):
        return group_advantages(part, "batch", aggregation, weights, all_reduce)

    def tamed(part, all_reduce=None):
        return log_tame(part + 3.5, None, all_reduce)

    for function in advantages, tamed:
        torch.testing.assert_close(on_two_processes(function), function(joined), equal_nan=True)
        apart = torch.cat([function(joined[:2]), function(joined[2:])])
        assert function is tamed or not torch.allclose(apart, function(joined), equal_nan=True)


def test_process_whose_groups_are_all_masked_still_takes_part_in_the_sum():
    called = []
    advantages = group_advantages(rewards([nan, nan]), "batch", all_reduce=lambda t: called.append(t) or t)
    assert len(called) == 1
    assert called[0].tolist() == [[0.0], [0.0], [0.0]]
    assert advantages.isnan().all()


def test_advantages_have_the_dtype_of_the_rewards():
    assert group_advantages(torch.rand(2, 3)).dtype == torch.float32


def test_filter_drops_groups_that_agree_or_are_solved_and_looks_past_missing_rewards():
    groups = rewards([0.2, 0.8, nan], [0.5, 0.51, nan], [0.85, 1.0, nan], [nan, nan, nan])
    kept = filter_groups(torch.zeros_like(groups), groups)
    assert kept.isnan().all(1).tolist() == [False, True, True, True]


def test_a_candidate_that_is_masked_stays_so_through_the_filter():
    kept = filter_groups(rewards([nan, 1.0, -1.0]), rewards([nan, 0.2, 0.8]))
    assert kept.isnan().tolist() == [[True, False, False]]


def test_log_taming_touches_the_reward_that_swings_and_looks_past_missing_ones():
    both = rewards([[1.0, 1.0], [nan, 8.0]], [[1.1, 0.0], [0.9, 2.0]])
    tamed = log_tame(both)
    torch.testing.assert_close(tamed[..., 0], both[..., 0], equal_nan=True)
    torch.testing.assert_close(tamed[..., 1], both[..., 1].log1p())


def test_log_taming_refuses_a_reward_that_has_no_logarithm():
    with pytest.raises(ValueError, match="-1 or less"):
        log_tame(rewards([[1.0, -1.0], [1.0, 8.0]]))


def test_front_holds_who_is_best_at_something_and_whom_nobody_beats():
    group = rewards([[1.0, 0.0], [0.5, 0.5], [0.4, 0.4], [0.5, 0.5], [0.0, 1.0]])
    assert pareto_front(group).tolist() == [[True, True, False, True, True]]


def test_candidate_that_lacks_a_reward_is_not_on_the_front_and_beats_nobody():
    assert pareto_front(rewards([[nan, 9.0], [0.5, 0.5], [0.4, 0.4]])).tolist() == [[False, True, False]]


def test_front_of_one_reward_is_refused():
    with pytest.raises(ValueError, match="two rewards"):
        pareto_front(rewards([[1.0], [2.0]]))


def test_candidate_without_an_answered_comparison_has_no_win_rate():
    comparisons = rewards([[0.5, 1.0, nan], [0.0, 0.5, nan], [nan, nan, 0.5]])
    rates = win_rates(comparisons)
    torch.testing.assert_close(rates, rewards([1.0, 0.0, nan]), equal_nan=True)
    advantages = group_advantages(rates, "none")
    torch.testing.assert_close(advantages, rewards([0.5, -0.5, nan]), equal_nan=True)


def test_ties_count_one_half_and_a_group_of_ties_is_masked():
    comparisons = rewards([[nan, 0.5, 1.0], [0.5, nan, 0.5], [0.0, 0.5, nan]])
    torch.testing.assert_close(win_rates(comparisons), rewards([0.75, 0.5, 0.25]))
    assert group_advantages(win_rates(torch.full((1, 3, 3), 0.5))).isnan().all()
