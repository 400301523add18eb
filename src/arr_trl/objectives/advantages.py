"""From rewards to advantages, as plain functions: `[P, n]` in, `[P, n]` out, NaN where a prompt is masked."""

import torch


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
    rewards_PNF = rewards_NF.view(-1, num_generations, len(weights_F))
    missing_PF = rewards_PNF.isnan().any(1)
    total_PN = torch.where(missing_PF[:, None], 0.0, rewards_PNF * weights_F).sum(-1)
    return torch.where(missing_PF.all(-1)[:, None], torch.nan, total_PN)
