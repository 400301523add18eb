"""A vision-language model of transformers from a folder or the Hub, an adapter on it included."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin
from transformers.utils import find_adapter_config_file, is_torchvision_available

from ..image_only_processor import ImageOnlyProcessor
from ..shipped import place_of


_QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def base_of(model: str) -> str | None:
    """The model that an adapter in a folder or a repository belongs to; `None` where there is no adapter."""
    if place_of(model) != model or (Path(model).is_dir() and not Path(model, "adapter_config.json").is_file()):
        return None
    if find_adapter_config_file(model) is None:
        return None
    return PeftConfig.from_pretrained(model).base_model_name_or_path


def load_vlm(model: str, dtype: str | torch.dtype = "auto", **kwargs: Any) -> PreTrainedModel:
    """
    The model, with its adapter merged into it where what is named is an adapter, such as a trained judge.

    Args:
        model (`str`): folder or repository of a model or of an adapter, or `"tiny_scenes_vlm"`, which ships.
        dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`): precision of the weights.
        **kwargs: further arguments of `from_pretrained` of the model.

    Raises:
        `OSError`: when the adapter's base cannot be found.
    """
    base = base_of(model)
    if base is None:
        loaded = AutoModelForImageTextToText.from_pretrained(place_of(model), dtype=dtype, **kwargs)
        loaded.config._name_or_path = loaded.name_or_path = model  # of one that ships its name, and no place here
        return loaded
    try:
        loaded = load_vlm(base, dtype, **kwargs)  # of a judge that was trained further, an adapter again
    except OSError as error:
        raise OSError(f"{model} is an adapter of {base}, which cannot be loaded: {error}") from error
    merged = PeftModel.from_pretrained(loaded, model).merge_and_unload()
    merged.config._name_or_path = merged.name_or_path = model  # what PEFT notes as the base of the next adapter
    return merged


def load_processor(model: str) -> ProcessorMixin:
    """
    The processor of a model, of its base for an adapter. That of Qwen's models needs torchvision for videos alone; without
    it the part for videos is left out.
    """
    while (base := base_of(model)) is not None:
        model = base
    place = place_of(model)
    # one that ships was never shown a video
    if place != model or (not is_torchvision_available() and AutoConfig.from_pretrained(model).model_type in _QWEN):
        return ImageOnlyProcessor.from_pretrained(place)
    return AutoProcessor.from_pretrained(model)
