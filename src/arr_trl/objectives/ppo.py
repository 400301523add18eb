"""Losses on the ratio of two policies, and the divergence from a reference: log-probabilities, means or velocities in."""

import math

import torch

from .pairs import preference_loss, share_of_pairs


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


def guard_loss(
    log_prob: torch.Tensor,
    old_log_prob: torch.Tensor,
    advantages: torch.Tensor,
    mean: torch.Tensor,
    old_mean: torch.Tensor,
    std: torch.Tensor,
    sigma: torch.Tensor,
    sigma_next: torch.Tensor,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    GRPO-Guard ([paper](https://huggingface.co/papers/2510.22319)): the clipped surrogate with a ratio that is as wide at
    every noise level and lies around 1, ρ = exp(s·(ℓ - ℓ_old + mean‖μ - μ_old‖²/2s²)), divided by -dt, so that every
    step pulls as much. On-policy that weight is all of its effect.

    Args:
        log_prob (`torch.Tensor`): `[R, K]`, with gradient.
        old_log_prob (`torch.Tensor`): `[R, K]`, of the policy that sampled.
        advantages (`torch.Tensor`): `[R, K]`; 0 or NaN where masked.
        mean (`torch.Tensor`): `[R, L, C]`, μ of the step, with gradient.
        old_mean (`torch.Tensor`): `[R, L, C]`, of the policy that sampled; `mean` itself on-policy.
        std (`torch.Tensor`): `[R]`, s of each row's own step.
        sigma (`torch.Tensor`): `[R]`.
        sigma_next (`torch.Tensor`): `[R]`.
        epsilon (`float`): clip range, such as 2e-6.

    Returns:
        `tuple(torch.Tensor, torch.Tensor)`: loss and ratio ρ, `[R, K]`.
    """
    lost_R1 = gaussian_kl(mean, old_mean.detach(), std)[:, None]
    difference_RK = std[:, None] * (log_prob - old_log_prob + lost_R1)
    loss_RK, ratio_RK = ppo_clip_loss(difference_RK, torch.zeros_like(difference_RK), advantages.nan_to_num(), epsilon)
    return loss_RK / (sigma - sigma_next)[:, None], ratio_RK


def dppo_loss(
    log_prob: torch.Tensor,
    old_log_prob: torch.Tensor,
    advantages: torch.Tensor,
    mean: torch.Tensor,
    old_mean: torch.Tensor,
    std: torch.Tensor,
    threshold: float = 1e-5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Flow-DPPO ([paper](https://huggingface.co/papers/2606.11025)): -Aρ, and 0 where the step has left the policy that
    sampled by mean‖μ - μ_old‖²/2s² ≥ τ and would go further.

    Args:
        log_prob (`torch.Tensor`): `[R, K]`, with gradient.
        old_log_prob (`torch.Tensor`): `[R, K]`, of the policy that sampled.
        advantages (`torch.Tensor`): `[R, K]`; 0 or NaN where masked.
        mean (`torch.Tensor`): `[R, L, C]`, μ of the step.
        old_mean (`torch.Tensor`): `[R, L, C]`, of the policy that sampled; `mean` itself on-policy.
        std (`torch.Tensor`): `[R]`.
        threshold (`float`, *optional*, defaults to `1e-5`): τ.

    Returns:
        `tuple(torch.Tensor, torch.Tensor)`: loss and ratio ρ, `[R, K]`.
    """
    ratio_RK = torch.exp(log_prob - old_log_prob)
    far_R1 = (gaussian_kl(mean, old_mean, std) >= threshold)[:, None]
    further_RK = torch.where(advantages > 0, ratio_RK > 1, (ratio_RK < 1) & (advantages < 0))
    return torch.where(far_R1 & further_RK, 0.0, -advantages.nan_to_num() * ratio_RK), ratio_RK


def d3po_loss(
    log_prob: torch.Tensor,
    ref_log_prob: torch.Tensor,
    advantages: torch.Tensor,
    beta: float = 0.1,
    epsilon: float | None = 0.1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    D3PO ([paper](https://huggingface.co/papers/2311.13231)): -ln σ(β·(d of the better - d of the worse)) with
    d = ln clip(exp(ℓ - ℓ_ref), 1 ± ε), for the pairs that leave one latent.

    The clip is inside the logarithm: outside of it there is no gradient, also where the step would come back.
    Log-probabilities are means over dimensions, so the paper's ε of .1 is never reached.

    Args:
        log_prob (`torch.Tensor`): `[R, K]`, with gradient.
        ref_log_prob (`torch.Tensor`): `[R, K]`, of the policy that is held on to.
        advantages (`torch.Tensor`): `[R, K]`, of which only the order counts. NaN, and not 0, where masked or empty.
        beta (`float`, *optional*, defaults to `0.1`): how far a pair may part.
        epsilon (`float`, *optional*, defaults to `0.1`): clip range, or `None`.

    Returns:
        `tuple(torch.Tensor, torch.Tensor)`:
            loss and ratio exp(ℓ - ℓ_ref), `[R, K]`. Each candidate has half the loss of its pairs, averaged over its
            K - 1 opponents: a row of two sums to its pair's loss.
    """
    difference_RK = log_prob - ref_log_prob
    within = (-math.inf, math.inf) if epsilon is None else (math.log1p(-epsilon), math.log1p(epsilon))
    return preference_loss(beta * difference_RK.clamp(*within), advantages), torch.exp(difference_RK)


def prdp_loss(
    log_prob: torch.Tensor,
    old_log_prob: torch.Tensor,
    ref_log_prob: torch.Tensor,
    advantages: torch.Tensor,
    beta: float,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Proximal reward difference prediction ([paper](https://huggingface.co/papers/2402.08714)): two candidates' advantages
    should differ as much as β·Σ(ℓ - ℓ_ref) over their trained steps do. Squared; the larger of that and of the same with
    every β·(ℓ - ℓ_ref) held within ε of what it was. There is no public code, and this form was not checked against
    the paper's text.

    Args:
        log_prob (`torch.Tensor`): `[R, K, S]`, of the S trained steps of each candidate, with gradient.
        old_log_prob (`torch.Tensor`): `[R, K, S]`, of the policy that sampled.
        ref_log_prob (`torch.Tensor`): `[R, K, S]`, of the policy that is held on to.
        advantages (`torch.Tensor`): `[R, K]`. NaN, and not 0, where masked or empty.
        beta (`float`): times the paper's, the number of latent dimensions, of which log-probabilities are means.
        epsilon (`float`): clip range.

    Returns:
        `tuple(torch.Tensor, torch.Tensor)`:
            loss `[R, K]` and ratio exp(ℓ - ℓ_old) `[R, K, S]`. Each candidate has half the loss of its pairs, averaged
            over its K - 1 opponents: a row of two sums to its pair's loss.
    """
    gain, old_gain = beta * (log_prob - ref_log_prob), beta * (old_log_prob - ref_log_prob)
    held = torch.minimum(torch.maximum(gain, old_gain - epsilon), old_gain + epsilon)
    worth = advantages.nan_to_num()

    def squared_residual(gains: torch.Tensor) -> torch.Tensor:
        missing_RK = worth - gains.sum(-1)
        return (missing_RK[:, :, None] - missing_RK[:, None]) ** 2

    known_RK = ~advantages.isnan()
    pairs_RKK = known_RK[:, :, None] & known_RK[:, None]
    loss_RKK = torch.maximum(squared_residual(gain), squared_residual(held)) * pairs_RKK
    return share_of_pairs(loss_RKK), torch.exp(log_prob - old_log_prob)


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
