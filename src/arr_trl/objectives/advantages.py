"""From rewards to advantages, as plain functions: `[P, n]` in, `[P, n]` out, NaN where a candidate or prompt is masked."""

from collections.abc import Callable
from typing import Literal

import torch


AllReduce = Callable[[torch.Tensor], torch.Tensor]

_EPSILON = 1e-4  # keeps a standard deviation from being 0, as in Flow-GRPO and TRL


def rpo_advantages(
    rewards: torch.Tensor,
    positive_reward: float = 1.0,
    negative_reward: float = 0.1,
    center: bool = False,
) -> torch.Tensor:
    """
    Advantages of Rubric Policy Optimization ([paper](https://huggingface.co/papers/2605.08354)): only the order of the
    candidates counts. The best of a group gets `positive_reward`, the worst `-negative_reward`, those between are
    spaced evenly by rank; candidates with equal rewards share their mean rank.

    A group that carries no preference gives no gradient: all rewards equal (a tie), or any of them missing.

    Args:
        rewards (`torch.Tensor`): `[P, n]`, one row per prompt, NaN where a reward is missing.
        positive_reward (`float`, *optional*, defaults to `1.0`): advantage of the winner.
        negative_reward (`float`, *optional*, defaults to `0.1`): magnitude of the loser's negative advantage.
        center (`bool`, *optional*, defaults to `False`):
            Subtract the group's mean (.45 with the defaults), which changes no expectation and lowers the variance.

    Returns:
        `torch.Tensor`: `[P, n]`, NaN in masked groups: a tie is not an advantage of 0.
    """
    n = rewards.shape[1]
    better_PN = (rewards[:, None, :] > rewards[:, :, None]).sum(-1)  # how many candidates beat this one
    level_PN = (rewards[:, None, :] == rewards[:, :, None]).sum(-1)  # how many stand level with it, itself included
    rank_PN = 1 + better_PN + (level_PN - 1) / 2
    advantages = positive_reward - (positive_reward + negative_reward) * (rank_PN - 1) / (n - 1)
    if center:
        advantages = advantages - (positive_reward - negative_reward) / 2
    decided_P = ~rewards.isnan().any(1) & (rewards != rewards[:, :1]).any(1)
    return torch.where(decided_P[:, None], advantages, torch.nan)


def combine_rewards(rewards_NF: torch.Tensor, num_generations: int, weights_F: torch.Tensor) -> torch.Tensor:
    """
    Weighted sum over reward functions. A function that failed on one candidate is left out for the whole prompt, since
    the others could not be compared with it; without any function left the prompt is NaN.

    Args:
        rewards_NF (`torch.Tensor`): `[P·n, F]`, the candidates of a prompt adjacent, NaN where a function gave none.
        num_generations (`int`): candidates per prompt, n.
        weights_F (`torch.Tensor`): weight of each function.

    Returns:
        `torch.Tensor`: `[P, n]`.
    """
    rewards_PNF = rewards_NF.unflatten(0, (-1, num_generations))
    missing_PF = rewards_PNF.isnan().any(1)
    total_PN = torch.where(missing_PF[:, None], 0.0, rewards_PNF * weights_F).sum(-1)
    return torch.where(missing_PF.all(-1)[:, None], torch.nan, total_PN)


def group_advantages(
    rewards: torch.Tensor,
    scale_rewards: Literal["group", "batch", "none"] = "batch",
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = "sum_then_normalize",
    weights: torch.Tensor | None = None,
    all_reduce: AllReduce | None = None,
) -> torch.Tensor:
    """
    Advantages of Flow-GRPO ([paper](https://huggingface.co/papers/2505.05470)), (r - mean of the group) / (std + 1e-4),
    and of GDPO ([paper](https://huggingface.co/papers/2601.05242)), which takes the z-score of each reward in its group
    before they are weighed and summed, so that none drowns the others, and divides the sum by its std over the batch.

    A candidate without a reward is left out, and the others of its group are compared if at least two remain. Of
    several rewards one that fewer than two candidates of a group have is left out of that group first. A group whose
    rewards are all equal says nothing and is masked, though the batch's std counts it.

    Args:
        rewards (`torch.Tensor`): `[P, n]` or `[P, n, F]`, NaN where a reward is missing.
        scale_rewards (`str`, *optional*, defaults to `"batch"`):
            What divides: the std (of the population, not of a sample) of the `"group"` or of the whole `"batch"`, or
            `"none"`. With two candidates `"group"` makes every decided pair -1 and 1, whatever the margin. GDPO's sum
            is divided by the batch's with `"group"` too, as in TRL.
        multi_objective_aggregation (`str`, *optional*, defaults to `"sum_then_normalize"`):
            Or `"normalize_then_sum"`, which is GDPO.
        weights (`torch.Tensor`, *optional*): `[F]`, 1 each if not given.
        all_reduce (`Callable`, *optional*):
            Sums a float64 tensor, on the rewards' device, over processes, so that the batch is that of all of them.
            Every process calls it as often.

    Returns:
        `torch.Tensor`: `[P, n]`, NaN where a candidate is left out or its group masked.
    """
    rewards_PNF = comparable(rewards.double() if rewards.dim() == 3 else rewards.double()[..., None])
    separately = multi_objective_aggregation == "normalize_then_sum"
    if separately:
        rewards_PNF = _centred(rewards_PNF) / (_std_of_group(rewards_PNF) + _EPSILON)
    total_PN = (rewards_PNF if weights is None else rewards_PNF * weights.to(rewards_PNF)).sum(-1)
    advantages_PN = _centred(total_PN)
    if scale_rewards == "group" and not separately:
        advantages_PN = advantages_PN / (_std_of_group(total_PN) + _EPSILON)
    elif scale_rewards != "none":
        _, std = moments_of_batch(total_PN[..., None], all_reduce)
        advantages_PN = advantages_PN / (std + _EPSILON)
    return advantages_PN.masked_fill(_tied(total_PN), torch.nan).to(rewards.dtype)


def filter_groups(
    advantages: torch.Tensor, rewards: torch.Tensor, min_std: float = 0.05, max_mean: float = 0.9
) -> torch.Tensor:
    """
    UniWorld-V2's filter ([paper](https://huggingface.co/papers/2510.16888)): groups that agree, or are solved already,
    are dropped.

    Args:
        advantages (`torch.Tensor`): `[P, n]`.
        rewards (`torch.Tensor`): `[P, n]`, in 0..1 for the defaults, NaN where missing.
        min_std (`float`, *optional*, defaults to `0.05`): a group is kept if its std is above this,
        max_mean (`float`, *optional*, defaults to `0.9`): and its mean below this.

    Returns:
        `torch.Tensor`: `[P, n]`, NaN in dropped groups.
    """
    kept_P1 = (_std_of_group(rewards) > min_std) & (rewards.nanmean(1, keepdim=True) < max_mean)
    return advantages.masked_fill(~kept_P1, torch.nan)


def log_tame(
    rewards: torch.Tensor, threshold: float | None = None, all_reduce: AllReduce | None = None
) -> torch.Tensor:
    """
    PaCo-RL's taming of rewards that swing ([paper](https://huggingface.co/papers/2512.04784)): where the std of a
    reward over the batch, divided by its mean, is above that of the average reward, r becomes ln(1 + r).

    Args:
        rewards (`torch.Tensor`): `[P, n, F]`, NaN where missing; those that are tamed are above -1.
        threshold (`float`, *optional*): of std / mean. Defaults to the mean over the F rewards.
        all_reduce (`Callable`, *optional*): sums a float64 tensor over processes; called once.

    Returns:
        `torch.Tensor`: `[P, n, F]`, for [`group_advantages`] to weigh, sum and centre.

    Raises:
        `ValueError`: when a reward that would be tamed is -1 or less.
    """
    mean_F, std_F = moments_of_batch(rewards, all_reduce)
    swing_F = std_F / (mean_F + 1e-6)
    tamed_F = swing_F > (swing_F.nanmean() if threshold is None else threshold)
    if (rewards[..., tamed_F] <= -1).any():
        raise ValueError(
            "Log-taming takes ln(1 + r), and a reward is -1 or less: shift that reward function to be 0 or more."
        )
    return torch.where(tamed_F, rewards.log1p(), rewards)


def pareto_front(rewards: torch.Tensor) -> torch.Tensor:
    """
    Parrot's selection ([paper](https://huggingface.co/papers/2401.05675)), within the group: the candidates that no
    other beats in one reward without being worse in another. Of the paper only the rule is known here; with few
    candidates and several rewards nearly all are chosen.

    Args:
        rewards (`torch.Tensor`): `[P, n, F]` with F ≥ 2, NaN where missing.

    Returns:
        `torch.Tensor`: bool `[P, n]`. A candidate that lacks a reward is not chosen and beats nobody.

    Raises:
        `ValueError`: when there is one reward, of which only the best candidate would be left.
    """
    if rewards.shape[-1] < 2:
        raise ValueError("A Pareto front needs two rewards or more: with one it is the best candidate alone.")
    mine_PN1F, other_P1NF = rewards[:, :, None], rewards[:, None]
    beaten_PNN = (other_P1NF >= mine_PN1F).all(-1) & (other_P1NF > mine_PN1F).any(-1)
    return ~beaten_PNN.any(2) & ~rewards.isnan().any(-1)


def win_rates(comparisons: torch.Tensor) -> torch.Tensor:
    """
    Rewards of Pref-GRPO ([paper](https://huggingface.co/papers/2508.20751)): the share of its answered comparisons that
    a candidate won.

    Args:
        comparisons (`torch.Tensor`):
            `[P, n, n]`: at `[p, i, j]` 1 where i beat j, 0 where j beat i, one half for a tie, or what lies between.
            NaN where there is no answer, at both `[p, i, j]` and `[p, j, i]`. The diagonal is not read.

    Returns:
        `torch.Tensor`: `[P, n]` in 0..1, NaN for a candidate without an answered comparison.
    """
    itself_NN = torch.eye(comparisons.shape[-1], dtype=torch.bool, device=comparisons.device)
    return comparisons.masked_fill(itself_NN, torch.nan).nanmean(2)


def moments_of_batch(values: torch.Tensor, all_reduce: AllReduce | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Mean and standard deviation (of the population) of each of the F columns of `[P, n, F]` over all that is not NaN, in
    float64, of all processes if `all_reduce` sums over them: `[F]` each.
    """
    flat_NF = values.double().flatten(0, 1)
    there_NF = ~flat_NF.isnan()
    known_NF = torch.where(there_NF, flat_NF, 0.0)
    sums_3F = torch.stack([there_NF.double().sum(0), known_NF.sum(0), (known_NF**2).sum(0)])
    count_F, sum_F, squares_F = sums_3F if all_reduce is None else all_reduce(sums_3F)
    mean_F = sum_F / count_F
    return mean_F, (squares_F / count_F - mean_F**2).clamp(min=0).sqrt()


def comparable(rewards_PNF: torch.Tensor) -> torch.Tensor:
    """
    What is compared of the rewards `[P, n, F]` of groups: 0 for a reward that is left out of a group, since fewer than two
    of its candidates have it, and all NaN for a candidate that is left out of it.
    """
    missing_PNF = rewards_PNF.isnan()
    left_out_P1F = (~missing_PNF).sum(1, keepdim=True) < 2
    missing_PN1 = (missing_PNF & ~left_out_P1F).any(-1, keepdim=True) | left_out_P1F.all(-1, keepdim=True)
    return rewards_PNF.masked_fill(left_out_P1F, 0.0).masked_fill(missing_PN1, torch.nan)


def _centred(values: torch.Tensor) -> torch.Tensor:
    return values - values.nanmean(1, keepdim=True)


def _std_of_group(values: torch.Tensor) -> torch.Tensor:
    """`[P, 1, ...]`, of the population: what is there of a group is all there is."""
    return (_centred(values) ** 2).nanmean(1, keepdim=True).sqrt()


def _tied(values: torch.Tensor) -> torch.Tensor:
    """Bool `[P, 1]`: whether all that is there of a group is equal, one candidate and none included."""
    missing = values.isnan()
    lowest = values.masked_fill(missing, torch.inf).amin(1, keepdim=True)
    return lowest >= values.masked_fill(missing, -torch.inf).amax(1, keepdim=True)
