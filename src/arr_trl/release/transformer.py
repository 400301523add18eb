"""
The weights of a whole transformer in diffusers' layout: `config.json` and `diffusion_pytorch_model.safetensors`, in several
files with an index where they are large.
"""

import json
import os
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import load_file, save_file

from ..adapter_names import TRANSFORMER_WEIGHTS
from ..folders import replacing_folder


_FILES = TRANSFORMER_WEIGHTS.replace(".", "{suffix}.")
_LARGEST = "10GB"  # of a file, as diffusers has it


def save_transformer(
    transformer: torch.nn.Module,
    folder: str | os.PathLike,
    weights: dict[str, torch.Tensor],
    max_shard_size: int | str = _LARGEST,
) -> None:
    """
    Write a transformer so that its class's `from_pretrained` loads it. The same weights give the same bytes. The folder is
    replaced as a whole: files of two states never lie in it together.

    Args:
        transformer (`torch.nn.Module`): a transformer of diffusers, which says what `config.json` has to say.
        folder (`str` or `os.PathLike`): where the files go; what is in it is removed.
        weights (`dict[str, torch.Tensor]`): its state dict, whole.
        max_shard_size (`int` or `str`, *optional*, defaults to `"10GB"`): bytes of a file, above which there are several.
    """
    config = json.loads(transformer.to_json_string())
    config.pop("_name_or_path", None)  # a path of this machine
    split = split_torch_state_dict_into_shards(weights, filename_pattern=_FILES, max_shard_size=max_shard_size)
    with replacing_folder(folder) as written:
        (written / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for file, places in split.filename_to_tensors.items():
            part = {place: weights[place].detach().contiguous().cpu() for place in places}
            save_file(part, written / file, metadata={"format": "pt"})
        if split.is_sharded:
            index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
            (written / f"{TRANSFORMER_WEIGHTS}.index.json").write_text(
                json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8"
            )


def read_transformer(folder: str | os.PathLike) -> dict[str, torch.Tensor]:
    """
    The weights that [`save_transformer`] or diffusers wrote.

    Raises:
        `FileNotFoundError`: when there are none in the folder.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no weights of a transformer: they lie there where a run had use_peft=False."
        )
    return {place: weight for file in files for place, weight in load_file(file).items()}
