"""
Losses on finished pictures that are noised again: their likelihood is read off how well the velocity at x = (1-σ)x0 + σε
matches the target u = ε - x0.

All of them have one signature and return `[R, n]`, what each candidate adds to the loss of its row: the loss of a batch is
the sum over rows divided by their number, and the mean that papers write is that divided by n. A candidate whose advantage
is NaN adds 0 and stays in the denominator. At the policy that drew the pictures each has the gradient ω·A·∇e, and only the
weight ω differs: 1 in [`awm_loss`] without a weighting, σ/mean|v-u| in [`nft_loss`], ½ in [`dgpo_loss`], 1/mean|v-u| with a
centred A in [`crd_loss`], β/4 with A = ±1 in [`dpo_loss`]. What they hold on to when the policy moves on is the difference.
"""

import math
from typing import Literal

import torch

from .pairs import preference_loss
from .ppo import ppo_clip_loss


def matching_error(velocity: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """
    e(v) = mean (v - u)² over the latent dimensions, in float32 or better.

    Args:
        velocity (`torch.Tensor`): `[R, n, L, C]`, with gradient or not.
        target (`torch.Tensor`): `[R, n, L, C]`, what it should be: ε - x0, or another policy's velocity.

    Returns:
        `torch.Tensor`: `[R, n]`.
    """
    return ((_wide(velocity) - _wide(target)) ** 2).mean((-2, -1))


def nft_loss(
    velocity: torch.Tensor,
    old_velocity: torch.Tensor,
    target: torch.Tensor,
    sigma: torch.Tensor,
    advantages: torch.Tensor,
    *,
    beta: float = 1.0,
    advantage_clip: float = 5.0,
) -> torch.Tensor:
    """
    DiffusionNFT ([paper](https://huggingface.co/papers/2509.16117)): with r = ½ + ½·clip(A/A_max, ±1) the velocity is
    drawn to where the old one plus β of the way matches, with 1 - r to where the old one minus it does; both errors are
    of the predicted picture, σ²e(v±), divided by its own mean absolute error, σ·mean|v± - u|.

    Args:
        velocity (`torch.Tensor`): `[R, n, L, C]`, with gradient.
        old_velocity (`torch.Tensor`): `[R, n, L, C]`, of the policy that drew; `velocity` itself on-policy.
        target (`torch.Tensor`): `[R, n, L, C]`, ε - x0.
        sigma (`torch.Tensor`): `[R]`, the noise level, that of all candidates of a row.
        advantages (`torch.Tensor`): `[R, n]`, NaN where masked.
        beta (`float`, *optional*, defaults to `1.0`): how far v± lie from the old velocity. Drops out on-policy.
        advantage_clip (`float`, *optional*, defaults to `5.0`): A_max, the advantage that counts as certain.

    Returns:
        `torch.Tensor`: `[R, n]`.
    """
    velocity, old_velocity = _wide(velocity), _wide(old_velocity).detach()
    better = _probability(advantages, advantage_clip)
    level = sigma[:, None].double()
    loss = 0.0
    for prediction, share in (
        (beta * velocity + (1 - beta) * old_velocity, better),
        ((1 + beta) * old_velocity - beta * velocity, 1 - better),
    ):
        size = (level * _absolute_error(prediction, target)).clamp(min=_SMALLEST)
        error = matching_error(prediction, target)
        loss = loss + (share * level**2 / size).to(error) * error
    return torch.where(advantages.isnan(), 0.0, advantage_clip / beta * loss)


def awm_loss(
    velocity: torch.Tensor,
    old_velocity: torch.Tensor,
    target: torch.Tensor,
    sigma: torch.Tensor,
    advantages: torch.Tensor,
    *,
    weighting: Literal["uniform", "sigma", "sigma2", "huber", "ghuber"] = "uniform",
    epsilon: float | None = None,
    power: float = 0.25,
) -> torch.Tensor:
    """
    Advantage Weighted Matching ([paper](https://huggingface.co/papers/2509.25050)): the clipped surrogate of PPO with
    the matching error as the negative log-likelihood, weighed over noise levels.

    Args:
        velocity (`torch.Tensor`): `[R, n, L, C]`, with gradient.
        old_velocity (`torch.Tensor`): `[R, n, L, C]`, of the policy that drew; `velocity` itself on-policy.
        target (`torch.Tensor`): `[R, n, L, C]`, ε - x0.
        sigma (`torch.Tensor`): `[R]`, the noise level, that of all candidates of a row.
        advantages (`torch.Tensor`): `[R, n]`, NaN where masked.
        weighting (`str`, *optional*, defaults to `"uniform"`):
            The negative log-likelihood: e, σe, σ²e, σ√e (`"huber"`) or σeᵖ/p (`"ghuber"`).
        epsilon (`float`, *optional*): clip range of the ratio. Not clipped if not given.
        power (`float`, *optional*, defaults to `0.25`): p of `"ghuber"`.

    Returns:
        `torch.Tensor`: `[R, n]`.
    """

    def log_likelihood(prediction: torch.Tensor) -> torch.Tensor:
        error, level = matching_error(prediction, target), sigma[:, None]
        if weighting == "huber":
            return -(torch.sqrt(error + 1e-10) - 1e-5) * level
        if weighting == "ghuber":
            return -((error + 1e-10) ** power - 1e-10**power) * level / power
        return -error * level ** {"uniform": 0, "sigma": 1, "sigma2": 2}[weighting]

    loss, _ = ppo_clip_loss(
        log_likelihood(velocity),
        log_likelihood(old_velocity.detach()),
        advantages.nan_to_num(),
        math.inf if epsilon is None else epsilon,
    )
    return torch.where(advantages.isnan(), 0.0, loss)


def dgpo_loss(
    velocity: torch.Tensor,
    old_velocity: torch.Tensor,
    target: torch.Tensor,
    sigma: torch.Tensor,
    advantages: torch.Tensor,
    *,
    reference_velocity: torch.Tensor,
    beta: float = 100.0,
    epsilon: float | None = None,
) -> torch.Tensor:
    """
    Direct Group Preference Optimization ([paper](https://huggingface.co/papers/2510.08425)): A·e of each candidate,
    weighed by σ(Σ A·β·(e - e_ref)/n), how far its group still is from being preferred as it should. ε is shared in the
    group.

    Args:
        velocity (`torch.Tensor`): `[R, n, L, C]`, with gradient.
        old_velocity (`torch.Tensor`): `[R, n, L, C]`, of the policy that drew; `velocity` itself on-policy.
        target (`torch.Tensor`): `[R, n, L, C]`, ε - x0.
        sigma (`torch.Tensor`): `[R]`, the noise level. Not used: the weight is the same at all of them.
        advantages (`torch.Tensor`): `[R, n]`, NaN where masked.
        reference_velocity (`torch.Tensor`): `[R, n, L, C]`, of the policy that is held on to.
        beta (`float`, *optional*, defaults to `100.0`): how soon a group that is preferred as it should counts less.
        epsilon (`float`, *optional*):
            No gradient where exp(e_old - e) has left 1 ± ε the way that A pushes. Not clipped if not given.

    Returns:
        `torch.Tensor`: `[R, n]`.
    """
    weight = advantages.nan_to_num()
    error = matching_error(velocity, target)
    gained = error.detach() - matching_error(reference_velocity.detach(), target)
    behind = torch.sigmoid((weight * beta * gained).mean(1, keepdim=True))
    if epsilon is not None:
        ratio = torch.exp(matching_error(old_velocity.detach(), target) - error.detach())
        stopped = torch.where(weight > 0, ratio > 1 + epsilon, ratio < 1 - epsilon)
        error = torch.where(stopped, error.detach(), error)
    return behind * weight * error


def crd_loss(
    velocity: torch.Tensor,
    old_velocity: torch.Tensor,
    target: torch.Tensor,
    sigma: torch.Tensor,
    advantages: torch.Tensor,
    *,
    beta: float = 1.0,
    advantage_clip: float = 5.0,
) -> torch.Tensor:
    """
    Centred reward distillation ([paper](https://huggingface.co/papers/2603.14128)): what a candidate's likelihood has
    gained on the old policy, r = e_old/w_old - e/w with w = mean|v - u|, should differ from its group's mean as its
    reward does. Both are centred over the candidates of the row that are there, since only there the normaliser
    cancels.

    Args:
        velocity (`torch.Tensor`): `[R, n, L, C]`, with gradient.
        old_velocity (`torch.Tensor`): `[R, n, L, C]`, of the policy that drew; `velocity` itself on-policy.
        target (`torch.Tensor`): `[R, n, L, C]`, ε - x0.
        sigma (`torch.Tensor`): `[R]`, the noise level. Not used: w makes the weight.
        advantages (`torch.Tensor`): `[R, n]`, NaN where masked.
        beta (`float`, *optional*, defaults to `1.0`): how much the gain counts against the reward.
        advantage_clip (`float`, *optional*, defaults to `5.0`): A_max; the reward is ½ + ½·clip(A/A_max, ±1).

    Returns:
        `torch.Tensor`: `[R, n]`.
    """
    there = ~advantages.isnan()
    score, old_score = (
        matching_error(v, target) / _absolute_error(v, target).clamp(min=_SMALLEST) for v in (velocity, old_velocity)
    )
    gain = old_score.detach() - score
    wanted = _probability(advantages, advantage_clip)
    loss = (beta * (gain - _mean_of(gain.detach(), there)) - (wanted - _mean_of(wanted, there))) ** 2
    return torch.where(there, advantage_clip / beta * loss, 0.0).to(_wide(velocity).dtype)


def dpo_loss(
    velocity: torch.Tensor,
    old_velocity: torch.Tensor,
    target: torch.Tensor,
    sigma: torch.Tensor,
    advantages: torch.Tensor,
    *,
    reference_velocity: torch.Tensor,
    beta: float = 10.0,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """
    Diffusion-DPO ([paper](https://huggingface.co/papers/2311.12908)) in its flow form, over the pairs of a row:
    -ln σ(-β/2·[(e - e_ref of the better) - (e - e_ref of the worse)]). σ and ε are shared in the row.

    Every pair whose advantages differ counts, in a row of more than two as well: a group that a judge ordered has n(n-1)/2
    verdicts, of which best against worst would use one. Ties and pairs with a masked candidate add 0.

    Args:
        velocity (`torch.Tensor`): `[R, n, L, C]`, with gradient.
        old_velocity (`torch.Tensor`): `[R, n, L, C]`. Not used: this holds on to the reference.
        target (`torch.Tensor`): `[R, n, L, C]`, ε - x0.
        sigma (`torch.Tensor`): `[R]`, the noise level. Not used: the paper's factor of it is left out, as everywhere.
        advantages (`torch.Tensor`): `[R, n]`, of which only the order counts; NaN where masked.
        reference_velocity (`torch.Tensor`): `[R, n, L, C]`, of the policy that is held on to.
        beta (`float`, *optional*, defaults to `10.0`):
            How far a pair's errors may part. Papers' 2000 is for given pairs; online it spends itself on the spread of
            single noise levels.
        label_smoothing (`float`, *optional*, defaults to `0.0`): probability that a pair is the other way round.

    Returns:
        `torch.Tensor`:
            `[R, n]`: each candidate has half the loss of its pairs, averaged over its n - 1 opponents. A row of two sums
            to its pair's loss, so the papers' mean over pairs is the sum divided by the number of rows.
    """
    rewards = implicit_rewards(velocity, reference_velocity, target, beta)
    return preference_loss(rewards, advantages, label_smoothing=label_smoothing)


def implicit_rewards(
    velocity: torch.Tensor, reference_velocity: torch.Tensor, target: torch.Tensor, beta: float
) -> torch.Tensor:
    """The reward that a policy stands for by Diffusion-DPO, -β/2·(e - e_ref): `[R, n]` of velocities `[R, n, L, C]`."""
    return -beta / 2 * (matching_error(velocity, target) - matching_error(reference_velocity.detach(), target))


_SMALLEST = 1e-5  # of an error that divides


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _absolute_error(velocity: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """mean|v - u|, a weight: `[R, n]` in float64, without gradient."""
    return (_wide(velocity) - _wide(target)).detach().abs().mean((-2, -1), dtype=torch.float64)


def _probability(advantages: torch.Tensor, advantage_clip: float) -> torch.Tensor:
    """½ + ½·clip(A/A_max, ±1), in float64; ½ where masked."""
    return 0.5 + advantages.nan_to_num().double().clamp(-advantage_clip, advantage_clip) / (2 * advantage_clip)


def _mean_of(values: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Mean over what is there of a row: `[R, 1]`."""
    return torch.where(there, values, 0.0).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
