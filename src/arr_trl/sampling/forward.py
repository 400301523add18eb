"""Points on the straight way between a finished picture and noise, which is where flow-matching networks are trained."""

import torch


def add_noise(latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The forward process, x = (1 - σ)x₀ + σε, and the velocity that leads along it.

    Args:
        latents (`torch.Tensor`): finished latents x₀, `[R, n, L, C]`, float32.
        noise (`torch.Tensor`): ε, `[R, L, C]`, the same for all of a row, or `[R, n, L, C]`, one for each.
        sigma (`torch.Tensor`): noise levels, `[R]`.

    Returns:
        `tuple(torch.Tensor, torch.Tensor)`: noisy latents and target velocities ε - x₀, both `[R, n, L, C]`.
    """
    sigma, noise = sigma.view(-1, 1, 1, 1), noise[:, None] if noise.ndim == 3 else noise
    return (1 - sigma) * latents + sigma * noise, noise - latents


def logit_normal(count: int, draws: torch.Tensor) -> torch.Tensor:
    """
    Noise levels σ whose logit is normal, as Stable Diffusion 3 was trained
    ([paper](https://huggingface.co/papers/2403.03206)), one from each of `count` equally probable parts.

    Args:
        count (`int`): how many, K.
        draws (`torch.Tensor`): uniform in [0, 1), `[P, K]`.

    Returns:
        `torch.Tensor`: `[P, K]`, .0085 to .9915: two in a million lie beyond.
    """
    places = (torch.arange(count) + draws.double()) / count
    return torch.special.ndtri(places.clamp(1e-6, 1 - 1e-6)).sigmoid().float()


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


def levels_to_train(
    sigmas: torch.Tensor, timestep_range: float, count: int, steps: str = "num_inference_steps"
) -> torch.Tensor:
    """
    The noisiest `timestep_range` of a schedule `[T + 1]`, without its end, of which `count` are to be drawn; `steps` is the
    setting that says how many there are.

    Raises:
        `ValueError`: when these are fewer than `count`.
    """
    levels = sigmas[:-1][sigmas[:-1] >= 1 - timestep_range - 1e-6]
    if len(levels) < count:
        raise ValueError(
            f"timestep_range={timestep_range} leaves {len(levels)} of {len(sigmas) - 1} noise levels, and "
            f"num_train_points={count} of them are trained on. Take fewer points, a wider range or more {steps}."
        )
    return levels
