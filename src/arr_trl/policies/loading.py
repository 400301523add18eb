"""Arguments of `from_pretrained` and the files of a pipeline, read before its weights are."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler

from .base import FlowPolicy
from .files import file_kwargs
from .handed_over import check_components
from .schedule import check_scheduler, name_of_steps


# What `DiffusionPipeline.from_pretrained` takes beside components; what it does not know it ignores, with a warning.
FROM_PRETRAINED = (
    "cache_dir", "custom_pipeline", "custom_revision", "device_map", "disable_mmap", "dtype", "force_download",
    "load_connected_pipeline", "local_files_only", "low_cpu_mem_usage", "max_memory", "offload_folder",
    "offload_state_dict", "provider", "provider_options", "proxies", "quantization_config", "revision", "sess_options",
    "token", "torch_dtype", "trust_remote_code", "use_flashpack", "use_onnx", "use_safetensors", "variant",
)  # fmt: skip


def read_dtype(value: str | torch.dtype) -> torch.dtype:
    """
    A precision as torch has it, from its name in YAML or JSON: `"bfloat16"` or `"torch.bfloat16"`.

    Raises:
        `ValueError`: when it is none that a network computes in.
    """
    dtype = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point or dtype.itemsize < 2:
        raise ValueError(
            f"dtype={value!r} is no precision that a pipeline computes in; use bfloat16, float16 or float32. "
            "`base_precision` keeps the weights in 8 bits."
        )
    return dtype


def read_dtypes(init_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """
    Arguments of `from_pretrained` whose precision, or one for each component, stands under `dtype` as torch has it, and
    not at all where it was `None`.

    Raises:
        `ValueError`: when it is no precision, or `dtype` and `torch_dtype` differ.
    """
    others = {name: value for name, value in init_kwargs.items() if name not in ("dtype", "torch_dtype")}
    given = [init_kwargs[name] for name in ("dtype", "torch_dtype") if init_kwargs.get(name) is not None]
    read = [
        {part: read_dtype(v) for part, v in value.items()} if isinstance(value, Mapping) else read_dtype(value)
        for value in given
    ]
    if len(read) == 2 and read[0] != read[1]:
        raise ValueError(f"dtype={given[0]!r} and torch_dtype={given[1]!r} are two names of one thing; leave one out.")
    return others | ({"dtype": read[0]} if read else {})


def read_init_kwargs(init_kwargs: Mapping[str, Any], pipeline_class: type[DiffusionPipeline]) -> dict[str, Any]:
    """
    Arguments of a pipeline's `from_pretrained` as it needs them, also where they come from YAML or JSON.

    Raises:
        `ValueError`: when there is no such argument; the message names the nearest one. When a value is none that it
            takes.
    """
    parts = list(inspect.signature(pipeline_class).parameters)
    for name, value in init_kwargs.items():
        if name not in (*FROM_PRETRAINED, *parts):
            nearest = difflib.get_close_matches(name, [*FROM_PRETRAINED, *parts], n=1)
            raise ValueError(
                f"`{name}` is no argument of {pipeline_class.__name__}.from_pretrained, which would ignore it; "
                + (f"did you mean `{nearest[0]}`?" if nearest else f"its components are {', '.join(parts)}.")
            )
        if isinstance(value, str | Mapping | list) and name in (*parts, "quantization_config"):
            raise ValueError(
                f"{name}={value!r} has to be an object of diffusers or transformers, which a file or a command line "
                "cannot give; load it in Python"
                + (", or set `base_precision`." if name == "quantization_config" else ", and pass it or the pipeline.")
            )
    read = read_dtypes(init_kwargs)
    if isinstance(read.get("dtype"), dict):
        for name in read["dtype"]:
            if name not in (*parts, "default"):
                raise ValueError(
                    f"`dtype` names {name!r}, and the components of {pipeline_class.__name__} are {', '.join(parts)}; "
                    "`default` stands for the others."
                )
    return read


def check_files(model: str, policy_class: type[FlowPolicy], init_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """
    Find out from arguments and configuration files that a pipeline could not be loaded, or not be sampled as it samples
    itself.

    Args:
        model (`str`): model id or local folder.
        policy_class (`type[FlowPolicy]`): its policy.
        init_kwargs (`dict[str, Any]`): arguments of `from_pretrained`.

    Returns:
        `dict[str, Any]`: the arguments to load it with.

    Raises:
        `ValueError`: with a sentence that says what to change.
    """
    pipeline_class = policy_class.pipeline_class
    init_kwargs = read_init_kwargs(init_kwargs, pipeline_class)
    places = file_kwargs(init_kwargs)
    index = DiffusionPipeline.load_config(model, **places)
    # an entry is the library and the class of a component, none where it was `None`
    saved = {name: entry[1] for name, entry in index.items() if isinstance(entry, list | tuple) and len(entry) == 2}
    check_components(saved | init_kwargs, pipeline_class, policy_class.may_lack)
    if "scheduler" in init_kwargs:
        scheduler = init_kwargs["scheduler"]
        check_scheduler(name_of_steps(scheduler), scheduler.config, pipeline_class.__name__)
    else:
        # the index decides its class, whatever its own file says
        config = FlowMatchEulerDiscreteScheduler.load_config(model, subfolder="scheduler", **places)
        check_scheduler(saved["scheduler"], config, pipeline_class.__name__)
    left_out = {name: None for name in policy_class.may_lack if saved.get(name) is None}
    return left_out | init_kwargs
