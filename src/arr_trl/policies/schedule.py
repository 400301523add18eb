"""The noise levels of a pipeline's own scheduler, and which schedulers have steps that can be trained."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin
from diffusers.pipelines.flux.pipeline_flux import calculate_shift


EULER = FlowMatchEulerDiscreteScheduler.__name__
# Settings under which even this scheduler samples otherwise than by Euler steps from 1 to 0, and what they have to be.
_FIXED = {"stochastic_sampling": False, "invert_sigmas": False, "num_train_timesteps": 1000}


def scheduler_sigmas(scheduler: FlowMatchEulerDiscreteScheduler, num_steps: int, **kwargs: Any) -> torch.Tensor:
    """
    Noise levels `[T + 1]` from a copy of the scheduler, because `set_timesteps` changes the one that the user's pipeline
    holds. What was set at run time counts, such as `set_shift`, which its configuration does not know.

    Args:
        scheduler ([`~diffusers.FlowMatchEulerDiscreteScheduler`]): the pipeline's scheduler.
        num_steps (`int`): denoising steps, T.
        kwargs: what the pipeline passes to `set_timesteps`.

    Raises:
        `ValueError`: when they are not T + 1 levels that fall strictly to 0.
    """
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(num_steps, **kwargs)
    sigmas = scheduler.sigmas.float()
    if len(sigmas) != num_steps + 1 or sigmas[-1] != 0 or not (sigmas.diff() < 0).all():
        raise ValueError(
            f"For {num_steps} steps {type(scheduler).__name__} gives the noise levels "
            f"{', '.join(f'{sigma:.4g}' for sigma in sigmas.tolist())}, and Euler steps need {num_steps + 1} that fall "
            "strictly to 0; take another number of steps, or other settings of the scheduler."
        )
    return sigmas


def check_scheduler(name: str, config: Mapping[str, Any], pipeline: str) -> None:
    """
    Refuse a scheduler whose steps are not those that are sampled, scored and trained here.

    Args:
        name (`str`): its class.
        config (`dict[str, Any]`): its configuration.
        pipeline (`str`): the class of the pipeline that has it.

    Raises:
        `ValueError`: with the line that sets another.
    """
    if name != EULER:
        raise ValueError(
            f"The scheduler of this {pipeline} is {name}, and its steps would be trained as the Euler steps that they are "
            f"not. Set `pipe.scheduler = {EULER}.from_config(pipe.scheduler.config)`, and pass the pipeline or a folder "
            "that it was saved to."
        )
    for setting, needed in _FIXED.items():
        if config.get(setting, needed) != needed:
            raise ValueError(
                f"The scheduler of this {pipeline} has {setting}={config[setting]}, with which its steps are not the "
                f"Euler steps that are trained. Set `pipe.scheduler = {EULER}.from_config(pipe.scheduler.config, "
                f"{setting}={needed})`, and pass the pipeline or a folder that it was saved to."
            )


def name_of_steps(scheduler: SchedulerMixin) -> str:
    """The class that says what a scheduler's steps are: its own, unless it has those of the Euler scheduler."""
    return EULER if type(scheduler).step is FlowMatchEulerDiscreteScheduler.step else type(scheduler).__name__


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
