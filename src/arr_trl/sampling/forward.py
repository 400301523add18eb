"""Points on the straight way between a finished picture and noise, which is where flow-matching networks are trained."""

import torch


def add_noise(latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The forward process, x = (1 - σ)x₀ + σε, and the velocity that leads along it.

    Args:
        latents (`torch.Tensor`): finished latents x₀, `[R, n, L, C]`, float32.
        noise (`torch.Tensor`): ε, `[R, L, C]`, the same for all of a row.
        sigma (`torch.Tensor`): noise levels, `[R]`.

    Returns:
        `tuple(torch.Tensor, torch.Tensor)`: noisy latents and target velocities ε - x₀, both `[R, n, L, C]`.
    """
    sigma, noise = sigma.view(-1, 1, 1, 1), noise[:, None]
    return (1 - sigma) * latents + sigma * noise, noise - latents


def stratified(levels: torch.Tensor, count: int, draws: torch.Tensor) -> torch.Tensor:
    """
    Of `m` noise levels `count` for each prompt, one from each of `count` equal parts of them.

    Args:
        levels (`torch.Tensor`): `[m]`, in order.
        count (`int`): how many, K; at most `m`.
        draws (`torch.Tensor`): uniform in [0, 1), `[P, K]`, on the CPU.

    Returns:
        `torch.Tensor`: `[P, K]`, on the device of `levels`.
    """
    places = (torch.arange(count) + draws) * (len(levels) / count)
    # a draw just under 1 may be rounded up to the next part
    return levels[places.long().clamp(max=len(levels) - 1).to(levels.device)]
