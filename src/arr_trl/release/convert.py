"""Give the LoRA files of earlier versions, whose headers alone say their scale, their full strength in every loader."""

import os
from dataclasses import fields
from pathlib import Path

from peft import LoraConfig
from safetensors.torch import load_file, save_file

from ..adapter_names import DIFFUSERS_WEIGHTS_FILE
from ..folders import replacing
from ..policies.adapter_files import with_scale_inside
from .adapter import diffusers_header
from .strength import adapter_settings, weak_adapters


def convert_release(folder: str | os.PathLike) -> list[Path]:
    """
    Write the diffusers files of a release anew, with the scale inside the weights and alpha equal to the rank. What the
    adapter computes stays, and so do PEFT's two files. Files that are so already are not touched.

    Args:
        folder (`str` or `os.PathLike`): output folder of a training run, or an adapter's own folder.

    Returns:
        `list[Path]`: folders of the adapters that were converted.

    Raises:
        `ValueError`: when there is no adapter, or one is DoRA or has a bias, which no file can hold for every loader;
            nothing is changed then.
    """
    adapters = weak_adapters(folder)
    for adapter in adapters:
        _, settings = adapter_settings(adapter / DIFFUSERS_WEIGHTS_FILE)
        beside = next((name for name in ("use_dora", "lora_bias") if settings.get(name)), None)
        if beside is not None:
            raise ValueError(
                f"The adapter {adapter} was trained with {beside}=True, which ComfyUI leaves out and no file can mend; load "
                "it with diffusers or PEFT. Nothing was converted."
            )
    for adapter in adapters:
        file = adapter / DIFFUSERS_WEIGHTS_FILE
        prefix, settings = adapter_settings(file)
        known = {field.name for field in fields(LoraConfig)}
        config = LoraConfig(**{name: value for name, value in settings.items() if name in known})
        weights = {name.removeprefix(f"{prefix}."): weight for name, weight in load_file(file).items()}
        config, weights = with_scale_inside(config, weights)
        header = diffusers_header(config, weights, prefix)
        with replacing(file) as written:
            save_file({f"{prefix}.{name}": weight for name, weight in weights.items()}, written, metadata=header)
    return adapters
