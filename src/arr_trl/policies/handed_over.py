"""What a pipeline that is handed over has to have, and what it must not carry."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from .schedule import check_scheduler, name_of_steps


def needed_components(pipeline_class: type[DiffusionPipeline], may_lack: Collection[str]) -> list[str]:
    """Components without which a pipeline draws nothing: those of its constructor, less the ones it calls optional."""
    parameters = inspect.signature(pipeline_class).parameters.values()
    optional = {*pipeline_class._optional_components, *may_lack}
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.name not in optional
    ]


def check_components(
    components: Mapping[str, Any], pipeline_class: type[DiffusionPipeline], may_lack: Collection[str]
) -> None:
    """
    Raises:
        `ValueError`: when one of the components that a pipeline needs is `None`.
    """
    missing = [name for name in needed_components(pipeline_class, may_lack) if components.get(name) is None]
    if missing:
        raise ValueError(
            f"This {pipeline_class.__name__} has no {', '.join(missing)}, and without it no prompt can be drawn; load the "
            "pipeline whole, with no component set to None."
        )


def check_pipeline(pipeline: DiffusionPipeline, may_lack: Collection[str] = ()) -> None:
    """
    Refuse a pipeline that a policy could not sample as the pipeline does.

    Args:
        pipeline ([`~diffusers.DiffusionPipeline`]): the pipeline.
        may_lack (`Collection[str]`, *optional*): components that may be `None` in this family.

    Raises:
        `ValueError`: when a component is missing, or the scheduler's steps are not Euler's.
    """
    check_components(pipeline.components, type(pipeline), may_lack)
    scheduler = pipeline.scheduler
    check_scheduler(name_of_steps(scheduler), scheduler.config, type(pipeline).__name__)


def check_adaptable(pipeline: DiffusionPipeline) -> None:
    """
    Refuse a pipeline whose network, with a new adapter switched off, would not be what was handed over, or on which a new
    adapter would do nothing.

    Raises:
        `ValueError`: with a sentence that says what to call first.
    """
    transformer, name = pipeline.transformer, type(pipeline).__name__
    if isinstance(transformer, PeftModel):
        raise ValueError(
            f"The transformer of this {name} is a PeftModel, whose adapter would be switched off with the new one. Set "
            "`pipe.transformer = pipe.transformer.merge_and_unload()` to train what both give together, or "
            "`pipe.transformer.unload()` for the network without it; to go on from the adapter, give its files as "
            "`adapter_path`."
        )
    if type(transformer).__name__ == "OptimizedModule":
        raise ValueError(
            f"The transformer of this {name} is wrapped by torch.compile, whose prefix would be in every key of the "
            "adapter's files. Set `pipe.transformer = pipe.transformer._orig_mod`; a trainer compiles with "
            "`compile_blocks=True`."
        )
    for component, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module):
            _check_no_adapter(component, module, name)
    if any(getattr(module, "fused_projections", False) for module in transformer.modules()):
        raise ValueError(
            f"The transformer of this {name} computes with fused projections, on which an adapter of `to_q`, `to_k` and "
            "`to_v` does nothing. Call `pipe.transformer.unfuse_qkv_projections()` first."
        )
    if getattr(transformer, "is_cache_enabled", False):
        raise ValueError(
            f"The transformer of this {name} has a cache, which answers with what it computed at an earlier step. Call "
            "`pipe.transformer.disable_cache()` first."
        )


def _check_no_adapter(component: str, module: torch.nn.Module, pipeline: str) -> None:
    layers = [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
    if not layers:
        return
    adapters = " and ".join(map(repr, module.peft_config))
    if any(layer.merged for layer in layers):
        raise ValueError(
            f"The {component} of this {pipeline} has fused the adapter {adapters} and kept its layers, which take it out "
            "again when they are switched off. Call `pipe.unload_lora_weights()` first, which keeps what is fused."
        )
    raise ValueError(
        f"The {component} of this {pipeline} carries the adapter {adapters}, from a file or from an earlier trainer, and "
        "would be compared with itself without it. Call `pipe.unload_lora_weights()` to train the base alone, and "
        "`pipe.fuse_lora()` before it to train what both give together; to go on from the adapter, give its files as "
        "`adapter_path`."
    )


def check_hooks(pipeline: DiffusionPipeline) -> None:
    """
    Refuse a transformer whose weights are moved or cast around each forward: a backward would meet others, and
    `base_precision` and `offload_blocks` do the same for training.

    Raises:
        `ValueError`: with the setting to use instead.
    """
    name = type(pipeline).__name__
    modules = list(pipeline.transformer.modules())
    # where diffusers and accelerate keep the hooks of a module
    hooks = {hook for module in modules if hasattr(module, "_diffusers_hook") for hook in module._diffusers_hook.hooks}
    if "layerwise_casting" in hooks:
        raise ValueError(
            f"The transformer of this {name} has layerwise casting, of which a trainer would know neither the precision "
            "it computes in nor that its weights are small. Load the pipeline without `enable_layerwise_casting`, and "
            "set base_precision='fp8'."
        )
    if "group_offloading" in hooks or any(hasattr(module, "_hf_hook") for module in modules):
        raise ValueError(
            f"The transformer of this {name} has hooks that move its weights for each forward, and a backward needs them "
            "again. Load the pipeline without offloading and `device_map`, and set `offload_blocks=True` and "
            "`offload_encoders=True`."
        )
