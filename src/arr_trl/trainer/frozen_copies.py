"""
Frozen copies of what is trained, whether that is an adapter or all weights: what a penalty holds on to, an older policy, an
average. They are kept in checkpoints, and are in no release.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from ..runtime.full_weights import BASE, FullWeights
from . import frozen_adapters
from .frozen_adapters import TRAINED


# What is trained: the adapter on a frozen transformer, or all of it.
Trained = PeftModel | FullWeights


def adapter_of(model: Trained) -> LoraConfig | None:
    """Configuration of the adapter that is trained; `None` where all weights are."""
    return None if isinstance(model, FullWeights) else model.peft_config[TRAINED]


def blend_frozen_copy(model: Trained, name: str, keep: float) -> None:
    """Let a copy follow what is trained: it keeps the share `keep` of itself."""
    if isinstance(model, FullWeights):
        model.blend(name, keep)
    else:
        frozen_adapters.blend_frozen_copy(model, name, keep)


@contextmanager
def use_frozen_copy(model: Trained, name: str | None) -> Iterator[None]:
    """Inside, the model computes with the copy `name`, without gradient, or with `None` as its base."""
    if isinstance(model, FullWeights):
        with model.use(BASE if name is None else name):
            yield
    else:
        with frozen_adapters.use_frozen_copy(model, name):
            yield


def save_frozen_copies(model: Trained, checkpoint: str | os.PathLike, is_writer: bool) -> None:
    """Write all copies but that of the base into a checkpoint. Called by all processes, since sharded weights are gathered."""
    if not isinstance(model, FullWeights):
        frozen_adapters.save_frozen_copies(model, checkpoint, is_writer)
        return
    for name in [name for name in model.kept if name != BASE]:  # which is read from where it always is
        weights = model.whole_copy(name, is_writer)
        if is_writer:
            save_file(weights, copy_file(checkpoint, name))


def load_frozen_copies(model: Trained, checkpoint: str | os.PathLike) -> None:
    """Take the copies back from a checkpoint. One that was written without them leaves them as they are."""
    if not isinstance(model, FullWeights):
        frozen_adapters.load_frozen_copies(model, checkpoint)
        return
    for name in model.kept:
        if copy_file(checkpoint, name).is_file():
            model.load_copy(name, load_file(copy_file(checkpoint, name)))


def copy_file(checkpoint: str | os.PathLike, name: str) -> Path:
    """Where a checkpoint of all weights has a copy of them."""
    return Path(checkpoint, f"frozen_{name}.safetensors")
