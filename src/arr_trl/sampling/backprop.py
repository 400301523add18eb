"""Ways from noise to a picture of which some steps keep gradient, so that a reward can be passed back through them."""

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import torch
from torch.utils.checkpoint import checkpoint

from .transitions import euler_step


# Velocities `[B, L, C]` of latents `[B, L, C]` at noise levels `[B]`.
Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def denoise_with_gradient(
    velocity: Velocity,
    latents: torch.Tensor,
    sigmas: torch.Tensor,
    active: Collection[int],
    detach_inputs: bool = False,
) -> torch.Tensor:
    """
    Follow Euler steps along `sigmas`, of which those in `active` have a gradient.

    Through the others a gradient passes as if they added a constant. With the last K steps active this is DRaFT-K
    ([paper](https://huggingface.co/papers/2309.17400)) and truncated AlignProp
    ([paper](https://huggingface.co/papers/2310.03739)); with steps anywhere and `detach_inputs` DRTune
    ([paper](https://huggingface.co/papers/2405.00760)); with all of them the exact gradient.

    Args:
        velocity (`Callable`): the network, `velocity(latents, sigma)`, `[B, L, C]` of `[B, L, C]` and `[B]`.
        latents (`torch.Tensor`): `[B, L, C]` at `sigmas[0]`, float32.
        sigmas (`torch.Tensor`): `[S + 1]`.
        active (`Collection[int]`): steps that keep gradient, 0 to S - 1.
        detach_inputs (`bool`, *optional*, defaults to `False`):
            Cut the gradient before the network in each active step, so that it reaches an earlier one by the sum of the
            steps alone. Along the network it may explode.

    Returns:
        `torch.Tensor`: latents at `sigmas[-1]`, `[B, L, C]`.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        sigma_B, sigma_next_B = sigma.expand(len(latents)), sigma_next.expand(len(latents))
        if step in active:
            predicted = velocity(latents.detach() if detach_inputs else latents, sigma_B)
        else:
            with torch.no_grad():
                predicted = velocity(latents, sigma_B)
        latents = euler_step(latents, predicted, sigma_B, sigma_next_B)
    return latents


def jump_to_end(velocity: Velocity, latents: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """
    The picture that the network takes to be at the end from where it is, x - σv, with gradient: ReFL
    ([paper](https://huggingface.co/papers/2304.05977)).

    Args:
        velocity (`Callable`): as in [`denoise_with_gradient`].
        latents (`torch.Tensor`): `[B, L, C]` at `sigma`, float32.
        sigma (`torch.Tensor`): `[]`.

    Returns:
        `torch.Tensor`: `[B, L, C]`.
    """
    sigma_B = sigma.expand(len(latents))
    return euler_step(latents, velocity(latents, sigma_B), sigma_B, torch.zeros_like(sigma_B))


def leap(
    velocity: Velocity, path: Sequence[torch.Tensor], levels: Sequence[torch.Tensor], discount: float
) -> torch.Tensor:
    """
    Two leaps from a point of a trajectory to its end, whose values stay those of the trajectory: LeapAlign
    ([paper](https://huggingface.co/papers/2604.15311)). A gradient reaches an early step through two networks, however
    many steps lie between.

    Args:
        velocity (`Callable`): as in [`denoise_with_gradient`].
        path (`Sequence[torch.Tensor]`):
            Latents of the trajectory where the first leap begins, where it ends, and at the end, `[B, L, C]` each,
            without gradient.
        levels (`Sequence[torch.Tensor]`): noise levels of the first two, `[]` each.
        discount (`float`): what the gradient from the second network to the first is multiplied by, 0 to 1.

    Returns:
        `torch.Tensor`: the last of `path` with gradient, `[B, L, C]`.
    """
    begin, middle, end = path
    first_B, second_B = (level.expand(len(begin)) for level in levels)
    landed = _at(middle, euler_step(begin, velocity(begin, first_B), first_B, second_B))
    seen = middle + discount * (landed - middle)  # the same value, less of its gradient
    return _at(end, euler_step(landed, velocity(seen, second_B), second_B, torch.zeros_like(second_B)))


def decode_one_by_one(to_pixels: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor) -> torch.Tensor:
    """
    Pictures of latents with gradient, each decoded alone and, so that the activations of one are in memory at a time, once
    more in the backward.

    Args:
        to_pixels (`Callable`): pixels `[1, 3, H, W]` in -1..1 of latents `[1, L, C]`, with gradient.
        latents (`torch.Tensor`): `[B, L, C]`.

    Returns:
        `torch.Tensor`: `[B, 3, H, W]` from 0 to 1, float32.
    """

    def decode(one: torch.Tensor) -> torch.Tensor:
        return (to_pixels(one).float() / 2 + 0.5).clamp(0, 1)

    if not torch.is_grad_enabled():
        return torch.cat([decode(one) for one in latents.split(1)])
    return torch.cat([checkpoint(decode, one, use_reentrant=False) for one in latents.split(1)])


def _at(value: torch.Tensor, reached: torch.Tensor) -> torch.Tensor:
    """`value` with the gradient of what was reached."""
    return reached + (value - reached).detach()
