"""Whether a LoRA file has its strength in its weights, which its header tells; nothing here needs torch."""

import json
import os
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..adapter_names import DIFFUSERS_WEIGHTS_FILE


_CHECKPOINT = re.compile(r"checkpoint-\d+")


def adapter_settings(file: str | os.PathLike) -> tuple[str, dict[str, Any]]:
    """
    What the header of a LoRA file of diffusers says of the adapter.

    Returns:
        `tuple(str, dict)`: name of the network, and the fields of its `LoraConfig`; empty without such a header.

    Raises:
        `ValueError`: when the file cannot be read.
    """
    try:
        with safe_open(file, "np") as opened:
            header = json.loads((opened.metadata() or {}).get("lora_adapter_metadata", "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"{file} cannot be read: {error}.") from error
    prefix = next(iter(header), "").partition(".")[0]
    return prefix, {name.removeprefix(f"{prefix}."): value for name, value in header.items()}


def weak_adapters(folder: str | os.PathLike) -> list[Path]:
    """
    Adapters of a release whose diffusers file keeps a scale in its header alone, so that who does not read it applies them
    at another strength. The folder itself may be the adapter; checkpoints, which are for going on, are passed over.

    Args:
        folder (`str` or `os.PathLike`): output folder of a training run, or an adapter's own folder.

    Returns:
        `list[Path]`: their folders.

    Raises:
        `ValueError`: when there is no adapter in `folder`, or a file cannot be read.
    """
    folder = Path(folder)
    files = [*folder.glob(DIFFUSERS_WEIGHTS_FILE), *sorted(folder.glob(f"*/{DIFFUSERS_WEIGHTS_FILE}"))]
    files = [file for file in files if not _CHECKPOINT.fullmatch(file.parent.name)]
    if not files:
        raise ValueError(
            f"{folder} holds no adapter: there is no {DIFFUSERS_WEIGHTS_FILE} in it or in one of its subfolders. Give the "
            "output folder of a training run."
        )
    return [file.parent for file in files if _has_scale(adapter_settings(file)[1])]


def _has_scale(settings: dict[str, Any]) -> bool:
    if not settings:
        return False
    patterns = settings.get("rank_pattern") or {}, settings.get("alpha_pattern") or {}
    return settings["r"] != settings["lora_alpha"] or patterns[0] != patterns[1] or bool(settings.get("use_rslora"))
