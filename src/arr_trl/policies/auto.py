"""From a model id or a pipeline to its policy."""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DiffusionPipeline

from ..data import check_source
from ..shipped import check_sizes_of_shipped, place_of
from .base import FlowPolicy
from .files import file_kwargs
from .flux import FluxPolicy
from .flux2 import Flux2Policy
from .flux2_klein import Flux2KleinPolicy
from .flux_fill import FluxFillPolicy
from .flux_kontext import FluxKontextPolicy
from .handed_over import check_adaptable, check_hooks, check_pipeline
from .inpainting import FluxInpaintPolicy, QwenImageInpaintPolicy
from .krea2 import Krea2Policy
from .loading import check_files
from .longcat_image import LongCatImagePolicy
from .lumina2 import Lumina2Policy
from .ovis_image import OvisImagePolicy
from .qwen_image import QwenImagePolicy
from .qwen_image_2_1 import QwenImage21Policy
from .qwen_image_edit import QwenImageEditPlusPolicy, QwenImageEditPolicy
from .sd3 import StableDiffusion3Policy
from .z_image import ZImagePolicy
from .z_image_omni import ZImageOmniPolicy


POLICIES: tuple[type[FlowPolicy], ...] = (
    FluxPolicy,
    FluxKontextPolicy,
    Flux2Policy,
    Flux2KleinPolicy,
    QwenImagePolicy,
    QwenImageEditPolicy,
    QwenImageEditPlusPolicy,
    StableDiffusion3Policy,
    ZImagePolicy,
    Krea2Policy,
    Lumina2Policy,
    QwenImage21Policy,
    FluxFillPolicy,
    FluxInpaintPolicy,
    QwenImageInpaintPolicy,
    ZImageOmniPolicy,
    LongCatImagePolicy,
    OvisImagePolicy,
)


def policy_class_of(model: str | os.PathLike | DiffusionPipeline | FlowPolicy, **init_kwargs: Any) -> type[FlowPolicy]:
    """
    The policy's class, from a configuration file where `model` is a model id or a folder. Of `init_kwargs`, arguments
    of the pipeline's `from_pretrained`, those count that say where the file is: `revision`, `token` and `cache_dir`.

    Raises:
        `TypeError`: when no policy knows the pipeline.
        `OSError`: when there is nothing at `model`, or the Hub is out of reach.
        `ValueError`: when there is no pipeline at `model`, or it is a single file.
    """
    if isinstance(model, FlowPolicy):
        return type(model)
    if not isinstance(model, str | os.PathLike):
        return _policy_class(type(model).__name__)
    if Path(model).is_file() or Path(model).suffix in (".safetensors", ".gguf", ".ckpt", ".sft"):
        raise ValueError(
            f"{model} is a single file, and a model is a folder with a model_index.json or an id on the Hub. Load a "
            "checkpoint with the `from_single_file` of its pipeline, and pass the pipeline or a folder that it was saved to."
        )
    check_source(str(model), "model_name_or_path", "model", init_kwargs.get("cache_dir"))
    name = DiffusionPipeline.load_config(model, **file_kwargs(init_kwargs)).get("_class_name")
    if name is None:
        raise ValueError(f"{model} is not a pipeline of diffusers: its model_index.json names no class.")
    return _policy_class(name)


def check_model(model: str | os.PathLike | DiffusionPipeline | FlowPolicy, **init_kwargs: Any) -> None:
    """
    Refuse a model that could not be trained as what it is handed over as: of a model id or a folder by its configuration
    files, of a pipeline by what it carries.

    Raises:
        `ValueError`: with a sentence that says what to change; and what [`policy_class_of`] raises.
    """
    policy_class = policy_class_of(model, **init_kwargs)
    if isinstance(model, str | os.PathLike):
        check_files(str(model), policy_class, init_kwargs)
        return
    pipeline = model.pipeline if isinstance(model, FlowPolicy) else model
    check_pipeline(pipeline, policy_class.may_lack)
    check_adaptable(pipeline)
    check_hooks(pipeline)


def policy_for(pipeline: DiffusionPipeline, **policy_kwargs: Any) -> FlowPolicy:
    """
    The policy of a pipeline's class.

    Args:
        pipeline ([`~diffusers.DiffusionPipeline`]): the pipeline.
        policy_kwargs: arguments of the policy, such as `max_sequence_length`.

    Raises:
        `TypeError`: when no policy knows the pipeline; the message lists those that are supported.
        `ValueError`: when the family has no such argument.
    """
    policy_class = policy_class_of(pipeline)
    _check_arguments(policy_class, policy_kwargs)
    return policy_class(pipeline, **policy_kwargs)


def load_policy(
    model: str, sizes: Mapping[str, int], policy_kwargs: dict[str, Any] | None = None, **init_kwargs: Any
) -> FlowPolicy:
    """
    Load a pipeline from the Hub or a folder as a policy. Its class, the sizes of pictures and the names of the policy's
    arguments, its components and its scheduler are checked from the configuration files before any weights are read.

    Args:
        model (`str`): model id or local folder, or the name of one that ships, `"tiny_scenes"` or `"tiny_scenes_edit"`.
        sizes (`dict[str, int]`): heights and widths of pictures in pixels, by the names of their settings.
        policy_kwargs (`dict[str, Any]`, *optional*): arguments of the policy, such as `max_sequence_length`.
        init_kwargs: arguments of the pipeline's `from_pretrained`.

    Raises:
        `TypeError`: when no policy knows the pipeline.
        `OSError`: when there is nothing at `model`, or the Hub is out of reach.
        `ValueError`:
            when there is no pipeline at `model`, it cannot make pictures of these sizes, the family or `from_pretrained`
            has no such argument, a component is missing, or its scheduler's steps are not Euler's.
    """
    model = place_of(model)
    policy_class = policy_class_of(model, **init_kwargs)
    _check_arguments(policy_class, policy_kwargs or {})
    init_kwargs = check_files(model, policy_class, init_kwargs)
    vae_config = AutoencoderKL.load_config(model, subfolder="vae", **file_kwargs(init_kwargs))
    policy_class.check_sizes(sizes, policy_class.size_multiple_of(vae_config))
    check_sizes_of_shipped(model, sizes)
    pipeline = policy_class.load_pipeline(model, **init_kwargs)
    pipeline.set_progress_bar_config(disable=True)
    return policy_class(pipeline, **policy_kwargs or {})


def _policy_class(name: str) -> type[FlowPolicy]:
    for policy_class in POLICIES:
        if policy_class.pipeline_class.__name__ == name:
            return policy_class
    supported = ", ".join(p.pipeline_class.__name__ for p in POLICIES)
    raise TypeError(
        f"There is no policy for {name}; supported are {supported}. For another flow-matching pipeline subclass "
        "`arr_trl.FlowPolicy` and pass an instance as `model`; docs/source/policies.md shows how."
    )


def _check_arguments(policy_class: type[FlowPolicy], policy_kwargs: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(policy_class).parameters if name != "pipeline"]
    for name in policy_kwargs:
        if name not in known:
            raise ValueError(
                f"`{name}` is no setting of {policy_class.pipeline_class.__name__}, which has {', '.join(known)}; "
                "leave it out."
            )
