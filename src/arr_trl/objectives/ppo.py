"""Losses on the ratio of two policies, and the divergence from a reference: log-probabilities, means or velocities in."""

import torch


def ppo_clip_loss(
    log_prob: torch.Tensor, old_log_prob: torch.Tensor, advantages: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Clipped surrogate loss per transition, max(-Aρ, -A·clip(ρ, 1-ε, 1+ε)).

    Args:
        log_prob (`torch.Tensor`): of any shape, such as `[R, K]`, with gradient.
        old_log_prob (`torch.Tensor`): of the same shape, of the policy that sampled.
        advantages (`torch.Tensor`): of the same shape.
        epsilon (`float`): clip range. Log-probabilities are means over dimensions, so ρ moves little: see the docs.

    Returns:
        `tuple(torch.Tensor, torch.Tensor)`: loss and ratio ρ, of the same shape.
    """
    ratio = torch.exp(log_prob - old_log_prob)
    loss = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - epsilon, 1 + epsilon))
    return loss, ratio


def gaussian_kl(mean: torch.Tensor, ref_mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """
    KL divergence of two Gaussian steps of equal variance, mean‖μ - μ_ref‖² / 2s², averaged over the latent dimensions
    like the log-probability: `[B]`. `mean` and `ref_mean` are `[B, L, C]`, `std` is `[B]`.
    """
    return ((mean - ref_mean) ** 2).flatten(1).mean(1) / (2 * std**2)


def velocity_kl(velocity: torch.Tensor, ref_velocity: torch.Tensor) -> torch.Tensor:
    """
    Mean squared difference of two velocities, `[B]`. The penalty for `cps`, whose standard deviation goes to 0 along
    the schedule and would make [`gaussian_kl`] explode.
    """
    return ((velocity - ref_velocity) ** 2).flatten(1).mean(1)
