"""
One stochastic step of a flow-matching sampler as a Gaussian with a log-probability.

Symbols: σ in [0, 1] is the noise level (1 is pure noise), σ' the next one, dt = σ' - σ < 0, v the velocity.
"""

import math
from typing import Literal

import torch


SDEType = Literal["flow", "dance", "cps"]


def transition(
    latents: torch.Tensor,
    velocity: torch.Tensor,
    sigma: torch.Tensor,
    sigma_next: torch.Tensor,
    noise_level: float,
    sde_type: SDEType,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Mean and standard deviation of one SDE step.

    - `"flow"`: Flow-GRPO ([paper](https://huggingface.co/papers/2505.05470)), diffusion a·√(σ/(1-σ)); at σ = 1, where
      that is infinite, 1-σ is taken one step later.
    - `"dance"`: DanceGRPO ([paper](https://huggingface.co/papers/2505.07818)), constant diffusion η.
    - `"cps"`: coefficients-preserving sampling ([paper](https://huggingface.co/papers/2509.05952)), which leaves
      exactly the noise that the schedule expects.

    Args:
        latents (`torch.Tensor`): x at `sigma`, `[B, L, C]`, float32.
        velocity (`torch.Tensor`): `[B, L, C]`, float32.
        sigma (`torch.Tensor`): `[B]`.
        sigma_next (`torch.Tensor`): `[B]`.
        noise_level (`float`): a of `"flow"` and `"cps"`, η of `"dance"`.
        sde_type (`str`): `"flow"`, `"dance"` or `"cps"`.

    Returns:
        `tuple(torch.Tensor, torch.Tensor)`: mean `[B, L, C]` and standard deviation `[B]`.
    """
    dt_B = sigma_next - sigma
    s, s_next, dt = (t.view(-1, 1, 1) for t in (sigma, sigma_next, dt_B))
    noise = latents + (1 - s) * velocity  # what the network takes for ε
    if sde_type == "cps":
        std_B = sigma_next * math.sin(noise_level * math.pi / 2)
        data = latents - s * velocity
        mean = (1 - s_next) * data + torch.sqrt(s_next**2 - std_B.view(-1, 1, 1) ** 2) * noise
        return mean, std_B
    if sde_type == "flow":
        diffusion_B = noise_level * torch.sqrt(sigma / (1 - torch.where(sigma == 1, sigma_next, sigma)))
    else:
        diffusion_B = torch.full_like(sigma, noise_level)
    mean = latents + velocity * dt + (diffusion_B.view(-1, 1, 1) ** 2 / (2 * s)) * noise * dt
    return mean, diffusion_B * torch.sqrt(-dt_B)


def euler_step(
    latents: torch.Tensor, velocity: torch.Tensor, sigma: torch.Tensor, sigma_next: torch.Tensor
) -> torch.Tensor:
    """The deterministic step x + v·dt: `[B, L, C]`; `sigma` and `sigma_next` are `[B]`."""
    return latents + velocity * (sigma_next - sigma).view(-1, 1, 1)


def log_prob(latents_next: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """
    Gaussian log-probability of a step, averaged over the latent dimensions as Flow-GRPO and its successors do.

    Args:
        latents_next (`torch.Tensor`): x', `[..., L, C]`, float32.
        mean (`torch.Tensor`): `[..., L, C]`, float32.
        std (`torch.Tensor`): `[...]`, greater than 0.

    Returns:
        `torch.Tensor`: `[...]`.
    """
    squared = ((latents_next - mean) ** 2).mean((-2, -1))
    return -squared / (2 * std**2) - torch.log(std) - 0.5 * math.log(2 * math.pi)
