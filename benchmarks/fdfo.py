"""
FDFO, finite differences of flow ([paper](https://huggingface.co/papers/2603.12893)), from its formula, as an experiment of
the arena: two trajectories of a prompt that differ by a little noise in every step, and velocities all along the way that
are pulled towards the better end.

What it is compared on is in docs/source/benchmarks.md, and why it is no trainer of the package.
"""

import math
from itertools import pairwise
from typing import Any

import torch

from arr_trl import DiffusionNFTTrainer
from arr_trl.policies import FlowPolicy
from arr_trl.trainer.buffer import Buffer, with_conditioning


TRUST_REGION = 0.03  # the paper's width of the quadratic penalty on the ratio


def fdfo_loss(
    velocity: torch.Tensor, old_velocity: torch.Tensor, x0: torch.Tensor, rewards: torch.Tensor
) -> torch.Tensor:
    """
    Args:
        velocity, old_velocity (`torch.Tensor`): at the latents of both trajectories, `[R, 2, L, C]`.
        x0 (`torch.Tensor`): where the two ended, `[R, 2, L, C]`.
        rewards (`torch.Tensor`): of the two, `[R, 2]`; NaN leaves the pair out.

    Returns:
        `torch.Tensor`: the loss of each, `[R, 2]`, 0 where nothing is known.
    """
    half = (x0[:, 1] - x0[:, 0]) / 2
    half = half / (half.square().mean((-2, -1), keepdim=True) + 1e-6)
    delta = torch.stack([-half, half], 1)
    gain = (rewards[:, 1] - rewards[:, 0]) / 2
    gain = torch.stack([-gain, gain], 1)
    active = ~gain.isnan()
    gain = gain.nan_to_num()
    log_likelihood = -(velocity - (old_velocity - delta)).square().mean((-2, -1))
    ratio = (log_likelihood + delta.square().mean((-2, -1))).exp()
    return (-gain * ratio + gain.abs() / (2 * TRUST_REGION) * (ratio - 1) ** 2) * active


def stirred(latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor | float, gamma: float) -> torch.Tensor:
    """Latents at a level that lies above `sigma` by gamma, brought back to it with fresh noise in place of what they lose."""
    return (latents + sigma * math.sqrt((1 + gamma) ** 2 - 1) * noise) / (1 + gamma * sigma)


@torch.no_grad()
def paired_trajectories(
    policy: FlowPolicy,
    model: torch.nn.Module,
    start: torch.Tensor,
    generators: list[torch.Generator],
    sigmas: torch.Tensor,
    conditioning: dict[str, torch.Tensor],
    gamma: float,
    guidance_scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents at every level that a velocity was taken at, `[T, B, L, C]`, and where they ended, `[B, L, C]`."""

    def fresh() -> torch.Tensor:
        draws = [torch.randn(start.shape[1:], generator=generator) for generator in generators]
        return torch.stack(draws).to(start.device)

    def overshot(sigma_next: torch.Tensor) -> torch.Tensor:
        return sigma_next / (1 + gamma - gamma * sigma_next)

    # at the level of pure noise nothing is gained by overshooting: the noise is mixed with some of its own
    latents, way = (start + math.sqrt((1 + gamma) ** 2 - 1) * fresh()) / (1 + gamma), []
    for sigma, sigma_next in pairwise(sigmas):
        way.append(latents)
        velocity = policy.velocity(model, latents, sigma.expand(len(latents)), conditioning, guidance_scale)
        lower = overshot(sigma_next)
        latents = latents + (lower - sigma) * velocity
        if sigma_next > 0:
            latents = stirred(latents, fresh(), lower, gamma)
    return torch.stack(way), latents


class FDFOTrainer(DiffusionNFTTrainer):
    """`num_train_points` steps of both trajectories are trained on, drawn for each prompt; `num_generations` is 2."""

    gamma = 0.05  # of every step; the paper has .0025 at each of 40, too little here for the judge to see

    def _draw(
        self, rows: list[dict[str, Any]], size: tuple[int, int], plan: None, generators: list[torch.Generator]
    ) -> tuple[torch.Tensor, Buffer]:
        args, policy, K = self.args, self.policy, self.args.num_train_points
        conditioning = policy.encode(rows, *size)
        of_candidates = {name: tensor.repeat_interleave(2, 0) for name, tensor in conditioning.items()}
        sigmas = policy.sigmas(args.num_inference_steps, *size).to(policy.device)
        start = policy.initial_noise(len(rows), *size, generators).repeat_interleave(2, 0)
        drawing = [generator for generator in generators for _ in range(2)]
        way, ends = paired_trajectories(
            policy, self.model_wrapped, start, drawing, sigmas, of_candidates, self.gamma, self._guidance_in_rollout()
        )
        steps = torch.stack([torch.randperm(len(way), generator=generator)[:K] for generator in generators])  # [P, K]
        prompts = torch.arange(len(rows)).repeat_interleave(K)
        of_prompts = way.view(len(way), len(rows), 2, *ends.shape[1:])
        points = {
            "latents": of_prompts[steps.flatten(), prompts],
            "x0": ends.view(len(rows), 2, *ends.shape[1:])[prompts],
            "sigma": sigmas[steps.flatten().to(sigmas.device)],
            "prompt": prompts,
            "candidate": torch.arange(2).repeat(len(rows) * K, 1),
        }
        return ends, with_conditioning(points, conditioning)

    def _loss_of_rows(self, model: torch.nn.Module, inputs: Buffer) -> torch.Tensor:
        velocity = self._velocity_of_groups(model, inputs["latents"], inputs)
        loss = fdfo_loss(velocity, velocity.detach(), inputs["x0"], inputs["advantages"])
        return loss.sum() / self.args.per_device_train_batch_size
