"""From a model id or a pipeline to its policy."""

from typing import Any

from diffusers import AutoencoderKL, DiffusionPipeline

from ..data import check_source
from .base import FlowPolicy
from .flux import FluxPolicy


POLICIES: tuple[type[FlowPolicy], ...] = (FluxPolicy,)


def policy_for(pipeline: DiffusionPipeline, **policy_kwargs: Any) -> FlowPolicy:
    """
    The policy of a pipeline's class.

    Args:
        pipeline ([`~diffusers.DiffusionPipeline`]): the pipeline.
        policy_kwargs: arguments of the policy, such as `max_sequence_length`.

    Raises:
        `TypeError`: when no policy knows the pipeline; the message lists those that are supported.
    """
    return _policy_class(type(pipeline).__name__)(pipeline, **policy_kwargs)


def load_policy(model: str, height: int, width: int, max_sequence_length: int, **init_kwargs: Any) -> FlowPolicy:
    """
    Load a pipeline from the Hub or a folder as a policy. Its class and the picture size are checked from the
    configuration files before any weights are read.

    Args:
        model (`str`): model id or local folder.
        height (`int`): picture height in pixels.
        width (`int`): picture width in pixels.
        max_sequence_length (`int`): text tokens per prompt.
        init_kwargs: arguments of the pipeline's `from_pretrained`.

    Raises:
        `TypeError`: when no policy knows the pipeline.
        `OSError`: when there is nothing at `model`, or the Hub is out of reach.
        `ValueError`: when there is no pipeline at `model`, or it cannot make pictures of this size.
    """
    check_source(model, "model_name_or_path", "model")
    name = DiffusionPipeline.load_config(model).get("_class_name")
    if name is None:
        raise ValueError(f"{model} is not a pipeline of diffusers: its model_index.json names no class.")
    policy_class = _policy_class(name)
    vae_config = AutoencoderKL.load_config(model, subfolder="vae")
    policy_class.check_size(height, width, policy_class.size_multiple_of(vae_config))
    pipeline = policy_class.pipeline_class.from_pretrained(model, **init_kwargs)
    pipeline.set_progress_bar_config(disable=True)
    return policy_class(pipeline, max_sequence_length=max_sequence_length)


def _policy_class(name: str) -> type[FlowPolicy]:
    for policy_class in POLICIES:
        if policy_class.pipeline_class.__name__ == name:
            return policy_class
    supported = ", ".join(p.pipeline_class.__name__ for p in POLICIES)
    raise TypeError(
        f"There is no policy for {name}; supported are {supported}. For another flow-matching pipeline subclass "
        "`arr_trl.FlowPolicy` and pass an instance as `model`."
    )
