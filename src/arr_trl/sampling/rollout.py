"""Sampling trajectories: deterministic denoising, and rollouts whose noisy steps are kept for training."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn.functional import pad

from ..policies import Conditioning, FlowPolicy
from .transitions import SDEType, euler_step, log_prob, transition


@dataclass
class Rollout:
    """
    The candidates of `P` prompts, `n` per prompt and adjacent, and the noisy steps that led to them.

    Candidates that stand at the same latents share a forward pass, here and in training, so a row is what one forward
    pass is for: a point of a trajectory, and the `K` candidates that leave it. With shared initial noise these are all
    `n` at the first noisy step; later, and without, one (the other slots are empty then).

    Args:
        latents (`torch.Tensor`): finished latents `[P·n, L, C]`.
        rows (`dict[str, torch.Tensor]`):
            Of the noisy steps. Per row: `latents` `[R, L, C]`; `sigma`, `sigma_next` and the number of the `prompt`,
            `[R]`. Per row and slot: `next_latents` `[R, K, L, C]`, `log_prob` and the number of the `candidate` within
            its prompt `[R, K]`, -1 in empty slots. Every row carries its own noise levels, so that training never
            looks one up again.
    """

    latents: torch.Tensor
    rows: dict[str, torch.Tensor]


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
    step_noise: torch.Tensor,
    sigmas: torch.Tensor,
    conditioning: Conditioning,
    window_start: int,
    sde_type: SDEType,
    noise_level: float,
    guidance_scale: float,
    keep_means: bool = False,
) -> Rollout:
    """
    Sample `n` candidates of each of `P` prompts in one batch.

    The `W` steps from `window_start` on carry noise and are kept, the others follow the ODE. When `initial_noise` has
    one row per prompt, the candidates of a prompt share it: until the first noise parts them, one forward pass serves
    them all. Everything stays on the device, and nothing waits for it.

    Args:
        policy ([`FlowPolicy`]): the policy.
        model (`torch.nn.Module`): its transformer, wrapped or not.
        initial_noise (`torch.Tensor`): `[P, L, C]` shared by the candidates of a prompt, or `[P·n, L, C]`.
        step_noise (`torch.Tensor`): the noise of the steps, `[P, n, W, L, C]`.
        sigmas (`torch.Tensor`): the schedule `[T + 1]`.
        conditioning (`dict[str, torch.Tensor]`): `P` rows.
        window_start (`int`): index of the first noisy step; at most `T - 1 - W`, since the last step is always an ODE
            step.
        sde_type (`str`): see [`transition`].
        noise_level (`float`): see [`transition`].
        guidance_scale (`float`): as in the pipeline's `__call__`.
        keep_means (`bool`, *optional*, defaults to `False`): keep the `mean` of each row's step, `[R, L, C]`.

    Returns:
        [`Rollout`]
    """
    num_prompts, num_generations, num_steps = step_noise.shape[:3]
    of_candidates = {name: tensor.repeat_interleave(num_generations, 0) for name, tensor in conditioning.items()}
    conditioning = conditioning if len(initial_noise) == num_prompts else of_candidates
    latents = denoise(policy, model, initial_noise, sigmas[: window_start + 1], conditioning, guidance_scale)
    slots = num_prompts * num_generations // len(latents)
    numbers = torch.arange(num_prompts * num_generations)  # on the CPU, which may ask for them

    steps = []
    for i in range(num_steps):
        rows = len(latents)
        sigma, sigma_next = (sigmas[window_start + k].expand(rows) for k in (i, i + 1))
        velocity = policy.velocity(model, latents, sigma, conditioning, guidance_scale)
        mean, std = transition(latents, velocity, sigma, sigma_next, noise_level, sde_type)
        of_row = {"mean": mean} if keep_means else {}
        mean, std = mean[:, None], std[:, None]
        next_latents = mean + std[..., None, None] * step_noise[:, :, i].reshape(rows, -1, *latents.shape[1:])
        candidates = numbers.view(rows, -1)
        steps.append(
            {
                "latents": latents,
                "sigma": sigma,
                "sigma_next": sigma_next,
                "prompt": candidates[:, 0] // num_generations,
                "next_latents": next_latents.expand(-1, slots, -1, -1),
                "log_prob": log_prob(next_latents, mean, std).expand(-1, slots),
                "candidate": pad(candidates % num_generations, (0, slots - candidates.shape[1]), value=-1),
                **of_row,
            }
        )
        latents, conditioning = next_latents.flatten(0, 1), of_candidates
    latents = denoise(policy, model, latents, sigmas[window_start + num_steps :], conditioning, guidance_scale)
    return Rollout(latents, {name: torch.cat([step[name] for step in steps]) for name in steps[0]})
