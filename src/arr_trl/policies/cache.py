"""Encoded rows that are kept, so that a prompt is encoded once."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..folders import replacing
from ..version import __version__
from .batching import Conditioning, concatenate
from .placement import TRANSFORMER


class EncodingCache:
    """
    Conditioning of single rows by key, in memory and, where there is a folder, on disk. The least recently used leave
    the memory first; the folder keeps all, for later runs too.

    Args:
        max_rows (`int`): how many are kept in memory.
    """

    def __init__(self, max_rows: int):
        self.max_rows = max_rows
        self._rows: OrderedDict[Hashable, Conditioning] = OrderedDict()
        self._folder: Path | None = None
        self._device = torch.device("cpu")

    def keep_on_disk(self, folder: Path, device: torch.device) -> None:
        """
        Read rows from `folder`, and write them there, from now on.

        Args:
            folder (`Path`):
                Is made where it is missing. Processes may share it if they encode alike, which
                [`~arr_trl.policies.cache.encoders_of`] tells.
            device (`torch.device`): where rows that are read go, but for what was on the CPU.
        """
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._device = device

    def get(self, keys: list[Hashable], encode: Callable[[list[int]], Conditioning], together: int) -> Conditioning:
        """
        The rows of `keys` in one batch.

        Args:
            keys (`list[Hashable]`): one for each row; equal keys mean equal rows.
            encode (`Callable`): encodes the rows at the indices it is given, some of those that are missing, each key once.
            together (`int`): how many of them it is given at a time, at the most.

        Returns:
            `dict[str, torch.Tensor]`: `len(keys)` rows, the shorter ones padded with zeros.
        """
        missing = {key: i for i, key in enumerate(keys) if key not in self._rows and not self._read(key)}
        new = list(missing)
        for start in range(0, len(new), together):
            some = new[start : start + together]
            encoded = encode([missing[key] for key in some])
            for i, key in enumerate(some):
                # copies: a view would keep all rows that were encoded with it, after they have left
                self._rows[key] = {name: tensor[i : i + 1].clone() for name, tensor in encoded.items()}
                self._write(key)
        for key in keys:
            self._rows.move_to_end(key)
        batch = concatenate([self._rows[key] for key in keys])
        while len(self._rows) > self.max_rows:
            self._rows.popitem(last=False)
        return batch

    def clear(self) -> None:
        self._rows.clear()

    def _file(self, key: Hashable) -> Path:
        return self._folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.safetensors"

    def _read(self, key: Hashable) -> bool:
        if self._folder is None:
            return False
        try:
            stored = load(self._file(key).read_bytes())
        except (FileNotFoundError, SafetensorError):  # a damaged file is written again
            return False
        places = {"cpu": torch.device("cpu"), "device": self._device}
        placed = ((name.split(":", 1), tensor) for name, tensor in stored.items())
        self._rows[key] = {name: tensor.to(places[place]) for (place, name), tensor in placed}
        return True

    def _write(self, key: Hashable) -> None:
        if self._folder is None:
            return
        row = {
            f"{'cpu' if tensor.device.type == 'cpu' else 'device'}:{name}": tensor.cpu().clone()
            for name, tensor in self._rows[key].items()
        }
        with replacing(self._file(key)) as written:
            written.write_bytes(save(row))


def encoders_of(pipeline: DiffusionPipeline, policy: str, settings: Mapping[str, Any], device: torch.device) -> str:
    """
    Tells what encodes a policy's rows from all else: from versions of libraries, its name and settings, and the names,
    shapes and first values of the weights of encoders and autoencoder.
    """
    versions = [__version__, version("diffusers"), version("transformers")]
    digest = hashlib.sha256(repr((policy, settings, device.type, versions)).encode())
    names = [name for name in pipeline.components if name != TRANSFORMER]
    return _with_weights(digest, pipeline, names)


def pipeline_of(pipeline: DiffusionPipeline, policy: str, settings: Mapping[str, Any]) -> str:
    """Tells what draws a policy's pictures from all else: its settings, schedule, and weights as in [`encoders_of`]."""
    schedule = sorted((name, str(value)) for name, value in pipeline.scheduler.config.items() if name[0] != "_")
    digest = hashlib.sha256(repr((policy, settings, type(pipeline.scheduler).__name__, schedule)).encode())
    return _with_weights(digest, pipeline, list(pipeline.components))


def _with_weights(digest, pipeline: DiffusionPipeline, names: list[str]) -> str:
    modules = {name: pipeline.components[name] for name in names}
    for component, module in modules.items():
        for name, weight in module.state_dict().items() if isinstance(module, torch.nn.Module) else ():
            first = weight.detach().flatten()[:16].float().tolist()
            digest.update(repr((component, name, tuple(weight.shape), str(weight.dtype), first)).encode())
    return digest.hexdigest()[:16]
