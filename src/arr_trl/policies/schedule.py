"""The noise levels of a pipeline's own scheduler."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift


def scheduler_sigmas(scheduler: FlowMatchEulerDiscreteScheduler, num_steps: int, **kwargs: Any) -> torch.Tensor:
    """`[T + 1]` from a copy of the scheduler, because `set_timesteps` changes the one that the user's pipeline holds."""
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(num_steps, **kwargs)
    return scheduler.sigmas.float()


def resolution_shift(config: Mapping[str, Any], sequence_length: int, max_shift: float = 1.15) -> float:
    """
    The `mu` of dynamic shifting: more latent tokens, more steps at high noise. Where the scheduler's configuration is
    silent, the defaults are those of the pipelines, which differ in `max_shift`.
    """
    return calculate_shift(
        sequence_length,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", max_shift),
    )
