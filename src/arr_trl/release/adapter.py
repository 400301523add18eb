"""
The files of one adapter: what PEFT reads (`adapter_config.json`, `adapter_model.safetensors`) and what diffusers and others
read (`pytorch_lora_weights.safetensors`), written so that all give the trained model's output.
"""

import json
import os
from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline
from huggingface_hub.utils import HFValidationError, validate_repo_id
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from ..adapter_names import ADAPTER_FILES, CONFIG_FILE, DIFFUSERS_WEIGHTS_FILE, PEFT_WEIGHTS_FILE
from ..folders import hub_name, replacing_files
from ..policies.adapter_files import check_lora_config, lora_loader, with_scale_inside


def loading_call(pipeline_class: str) -> str:
    """What a pipeline of diffusers loads an adapter with: `load_lora_weights`, or its transformer's method where it has none."""
    known = getattr(diffusers, pipeline_class, None)
    has_none = known is not None and lora_loader(known) is not known
    return "transformer.load_lora_adapter" if has_none else "load_lora_weights"


def public_name(source: str | os.PathLike) -> tuple[str, bool]:
    """
    How a model or dataset may be named in public: the id of a Hub repository as it is, a snapshot of one in the Hub's cache
    by that id, any other local path by its last part.

    Returns:
        `tuple(str, bool)`: the name, and whether it is local.
    """
    text = hub_name(os.fspath(source))
    if not Path(text).exists():
        try:
            validate_repo_id(text)
        except HFValidationError:
            pass
        else:
            return text, False
    return Path(text).resolve().name, True


def save_adapter(
    model: PeftModel,
    folder: str | os.PathLike,
    pipeline_class: type[DiffusionPipeline],
    adapter_name: str = "default",
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """
    Write an adapter as the three files that PEFT and diffusers load.

    The same weights give the same bytes. Each file is replaced in one step, so a crash leaves no file half written;
    other files in `folder` are not touched.

    Args:
        model ([`~peft.PeftModel`]):
            The trained model, unwrapped from DDP, FSDP or DeepSpeed.
        folder (`str` or `os.PathLike`):
            Where the files go; created when missing.
        pipeline_class (`type`):
            Class of the pipeline that the adapter belongs to, such as [`~diffusers.FluxPipeline`].
        adapter_name (`str`, *optional*, defaults to `"default"`):
            Which of the model's adapters to write.
        state_dict (`dict[str, torch.Tensor]`, *optional*):
            The model's state dict, where it has to be gathered first (ZeRO-3, FSDP).

    Raises:
        `ValueError`: when the adapter could not be loaded by stock diffusers; see [`check_lora_config`].
    """
    check_lora_config(model.peft_config[adapter_name])
    with replacing_files(folder, ADAPTER_FILES) as written:
        # without `save_embedding_layers=False` PEFT asks the Hub for the configuration of the base
        model.save_pretrained(
            written, selected_adapters=[adapter_name], save_embedding_layers=False, state_dict=state_dict
        )
        if adapter_name != "default":  # PEFT gives the others a folder of their own
            for name in (CONFIG_FILE, PEFT_WEIGHTS_FILE):
                os.replace(written / adapter_name / name, written / name)
        weights = load_file(written / PEFT_WEIGHTS_FILE)
        _tidy_config(written / CONFIG_FILE)
        _save_diffusers_weights(weights, model.peft_config[adapter_name], written, pipeline_class)


def _tidy_config(path: Path) -> None:
    """Make PEFT's file independent of the process (sets in hash order) and of the machine (path of the base)."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for name, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[name] = sorted(value)
    if config.get("base_model_name_or_path"):
        config["base_model_name_or_path"], _ = public_name(config["base_model_name_or_path"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _save_diffusers_weights(
    weights: dict[str, torch.Tensor], config: LoraConfig, folder: Path, pipeline_class: type[DiffusionPipeline]
) -> None:
    config, layers = with_scale_inside(
        config, {name.removeprefix("base_model.model."): weight for name, weight in weights.items()}
    )
    header = diffusers_header(config, layers, lora_loader(pipeline_class).transformer_name)
    lora_loader(pipeline_class).save_lora_weights(
        folder,
        transformer_lora_layers=layers,
        weight_name=DIFFUSERS_WEIGHTS_FILE,
        save_function=lambda tensors, path: save_file(tensors, path, metadata=header),
    )


def diffusers_header(config: LoraConfig, weights: dict[str, torch.Tensor], prefix: str) -> dict[str, str]:
    """
    The header of a LoRA file of diffusers.

    Args:
        config (`peft.LoraConfig`): of the weights, as [`~arr_trl.policies.adapter_files.with_scale_inside`] returns it.
        weights (`dict[str, torch.Tensor]`): by the names of its modules, without `prefix`.
        prefix (`str`): name of the network in the pipeline.
    """
    metadata = {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        # the modules themselves: a suffix list or a regex would be matched against the reader's model anew
        "target_modules": sorted({name.split(".lora_")[0] for name in weights}),
    }
    # diffusers rejects names that the reader's PEFT does not know, so that the other fields stay out
    metadata |= {name: value for name in ("rank_pattern", "alpha_pattern") if (value := getattr(config, name))}
    # Who finds alpha in adapter_config.json, which lies beside the file, learns here that it is not that of the file. One
    # key only: safetensors writes several in random order.
    return {
        "lora_adapter_metadata": json.dumps({f"{prefix}.{name}": value for name, value in metadata.items()}, indent=2)
    }
