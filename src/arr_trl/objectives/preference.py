"""
Losses on given preferences that are more than Diffusion-DPO, which is [`~arr_trl.objectives.dpo_loss`] with advantages 1
and -1: finished pictures that are noised again, σ and ε shared by all of a row.
"""

import torch

from .forward import implicit_rewards
from .pairs import preference_loss


def sdpo_loss(
    velocity: torch.Tensor, reference_velocity: torch.Tensor, target: torch.Tensor, beta: float, mu: float = 0.0
) -> torch.Tensor:
    """
    Diffusion-SDPO ([paper](https://huggingface.co/papers/2511.03317)): Diffusion-DPO, with the gradient of the loser
    scaled by λ = clip((1 - μ)·‖g_w‖²/⟨g_w, g_l⟩, 0, 1), and 1 where ⟨g_w, g_l⟩ ≤ 0, so that a step cannot raise the
    winner's error. g is the gradient of an error in the velocity; λ is that of each pair.

    Args:
        velocity (`torch.Tensor`): `[R, 2, L, C]`, the winner first, with gradient.
        reference_velocity (`torch.Tensor`): `[R, 2, L, C]`, of the policy that is held on to.
        target (`torch.Tensor`): `[R, 2, L, C]`, ε - x0.
        beta (`float`): how far a pair's errors may part.
        mu (`float`, *optional*, defaults to `0.0`): how much of the winner's gradient is to be left.

    Returns:
        `torch.Tensor`: `[R]`.
    """
    rewards = implicit_rewards(velocity, reference_velocity, target, beta)
    scale = _loser_scale(velocity.detach() - target, mu)
    loser = rewards[:, 1].detach() + scale * (rewards[:, 1] - rewards[:, 1].detach())
    return -torch.nn.functional.logsigmoid(rewards[:, 0] - loser)


def rank_dpo_loss(
    velocity: torch.Tensor, reference_velocity: torch.Tensor, target: torch.Tensor, scores: torch.Tensor, beta: float
) -> torch.Tensor:
    """
    RankDPO ([paper](https://huggingface.co/papers/2410.18013)): -ln σ(-β·[(e - e_ref)_i - (e - e_ref)_j]) over the pairs
    of a ranked row, each weighed by what exchanging them costs the ranking, the distance of 2^φ_i from 2^φ_j times that
    of 1/ln(1 + τ_i) from 1/ln(1 + τ_j). The rank τ is that of the scores φ; the paper may mean the model's.

    Args:
        velocity (`torch.Tensor`): `[R, n, L, C]`, with gradient.
        reference_velocity (`torch.Tensor`): `[R, n, L, C]`, of the policy that is held on to.
        target (`torch.Tensor`): `[R, n, L, C]`, ε - x0.
        scores (`torch.Tensor`): `[R, n]`, φ, such as mean win rates; equal ones share no pair.
        beta (`float`): how far errors may part.

    Returns:
        `torch.Tensor`: `[R]`, the mean over the n(n-1)/2 pairs.
    """
    rank = 1 + (scores[:, None] > scores[:, :, None]).sum(-1).to(scores)
    gain, discount = 2**scores, 1 / torch.log(1 + rank)
    weight = (gain[:, :, None] - gain[:, None]).abs() * (discount[:, :, None] - discount[:, None]).abs()
    # of implicit rewards β counts one half
    rewards = implicit_rewards(velocity, reference_velocity, target, 2 * beta)
    return preference_loss(rewards, scores, weight).sum(1) / (scores.shape[1] / 2)


def _loser_scale(difference: torch.Tensor, mu: float) -> torch.Tensor:
    """λ `[R]` of v - u `[R, 2, L, C]`; the factor 2/D of the gradients cancels."""
    winner, loser = difference[:, 0], difference[:, 1]
    along = (winner * loser).mean((-2, -1))
    scale = (1 - mu) * (winner**2).mean((-2, -1)) / along
    return torch.where(along > 0, scale.clamp(0, 1), 1.0)
