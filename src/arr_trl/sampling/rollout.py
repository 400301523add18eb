"""Sampling trajectories: deterministic denoising, and rollouts whose noisy steps are kept for training."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from diffusers.utils.torch_utils import randn_tensor

from ..policies import Conditioning, FlowPolicy
from .transitions import SDEType, euler_step, log_prob, transition


@dataclass
class Rollout:
    """
    The candidates of `P` prompts, `n` per prompt and adjacent, and the `W` noisy steps that led to each of them.

    Args:
        latents (`torch.Tensor`): finished latents `[P·n, L, C]`.
        transitions (`dict[str, torch.Tensor]`):
            `latents` and `next_latents` `[P·n, W, L, C]`, and `sigma`, `sigma_next`, `log_prob` `[P·n, W]`. Every
            transition carries its own noise levels, so that training never looks one up again.
    """

    latents: torch.Tensor
    transitions: dict[str, torch.Tensor]


@torch.no_grad()
def denoise(
    policy: FlowPolicy,
    model: torch.nn.Module,
    latents: torch.Tensor,
    sigmas: torch.Tensor,
    conditioning: Conditioning,
    guidance_scale: float,
) -> torch.Tensor:
    """
    Follow the probability-flow ODE with Euler steps along `sigmas`, as the pipeline does.

    Args:
        policy ([`FlowPolicy`]): the policy.
        model (`torch.nn.Module`): its transformer, wrapped or not.
        latents (`torch.Tensor`): `[B, L, C]` at `sigmas[0]`, float32.
        sigmas (`torch.Tensor`): `[S + 1]`; with one entry nothing is done.
        conditioning (`dict[str, torch.Tensor]`): `B` rows.
        guidance_scale (`float`): as in the pipeline's `__call__`.

    Returns:
        `torch.Tensor`: latents at `sigmas[-1]`, `[B, L, C]`.
    """
    for sigma, sigma_next in pairwise(sigmas):
        sigma_B, sigma_next_B = sigma.expand(len(latents)), sigma_next.expand(len(latents))
        velocity = policy.velocity(model, latents, sigma_B, conditioning, guidance_scale)
        latents = euler_step(latents, velocity, sigma_B, sigma_next_B)
    return latents


@torch.no_grad()
def rollout(
    policy: FlowPolicy,
    model: torch.nn.Module,
    initial_noise: torch.Tensor,
    sigmas: torch.Tensor,
    conditioning: Conditioning,
    num_generations: int,
    window: range,
    sde_type: SDEType,
    noise_level: float,
    guidance_scale: float,
    generator: torch.Generator,
) -> Rollout:
    """
    Sample `num_generations` candidates of every prompt in one batch.

    Steps inside `window` carry noise and are kept, the others follow the ODE. When `initial_noise` has one row per
    prompt, the candidates of a prompt share it, and the steps before the window, equal for all of them, are computed
    once.

    Args:
        policy ([`FlowPolicy`]): the policy.
        model (`torch.nn.Module`): its transformer, wrapped or not.
        initial_noise (`torch.Tensor`): `[P, L, C]` shared by the candidates of a prompt, or `[P·n, L, C]`.
        sigmas (`torch.Tensor`): the schedule `[T + 1]`.
        conditioning (`dict[str, torch.Tensor]`): `P` rows.
        num_generations (`int`): n, candidates per prompt.
        window (`range`): indices of the noisy steps; within `range(T - 1)`, since the last step is always an ODE step.
        sde_type (`str`): see [`transition`].
        noise_level (`float`): see [`transition`].
        guidance_scale (`float`): as in the pipeline's `__call__`.
        generator (`torch.Generator`): draws the noise of the steps.

    Returns:
        [`Rollout`]
    """
    num_prompts = len(next(iter(conditioning.values())))
    repeated = {name: tensor.repeat_interleave(num_generations, 0) for name, tensor in conditioning.items()}
    latents = initial_noise
    if len(latents) == num_prompts:
        latents = denoise(policy, model, latents, sigmas[: window.start + 1], conditioning, guidance_scale)
        latents = latents.repeat_interleave(num_generations, 0)
    else:
        latents = denoise(policy, model, latents, sigmas[: window.start + 1], repeated, guidance_scale)

    steps = []
    for i in window:
        sigma, sigma_next = sigmas[i].expand(len(latents)), sigmas[i + 1].expand(len(latents))
        velocity = policy.velocity(model, latents, sigma, repeated, guidance_scale)
        mean, std = transition(latents, velocity, sigma, sigma_next, noise_level, sde_type)
        noise = randn_tensor(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        next_latents = mean + std.view(-1, 1, 1) * noise
        steps.append(
            {
                "latents": latents,
                "next_latents": next_latents,
                "sigma": sigma,
                "sigma_next": sigma_next,
                "log_prob": log_prob(next_latents, mean, std),
            }
        )
        latents = next_latents
    latents = denoise(policy, model, latents, sigmas[window.stop :], repeated, guidance_scale)
    return Rollout(latents, {name: torch.stack([step[name] for step in steps], 1) for name in steps[0]})
