"""
Frozen copies of the adapter beside the one that is trained: what a penalty holds on to, an older policy, an average. Each
is a named adapter of PEFT, is kept in checkpoints, and is in no release.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors.torch import load_file, save_file

from ..runtime.sharding import blend, copy_whole, exchange, whole_weight


REFERENCE = "reference"  # the adapter of `adapter_path` as it was
EMA = "ema"  # the average of the trained one over its steps
OLD = "old"  # the policy that candidates are drawn with, where it is not the trained one
TRAINED = "default"
FILE = "frozen_adapters.safetensors"


@torch.no_grad()
def add_frozen_copy(model: PeftModel, name: str) -> None:
    """
    Put a frozen copy of the trained adapter, as it is now, beside it.

    Args:
        model ([`~peft.PeftModel`]): the model, whose trained adapter is called `"default"`.
        name (`str`): what the copy is called.
    """
    model.add_adapter(name, copy.deepcopy(model.peft_config[TRAINED]))
    for copy_of, trained in _pairs(model, name):
        copy_of.copy_(trained)
    model.set_adapter(TRAINED)  # which freezes the other one


def blend_frozen_copy(model: PeftModel, name: str, keep: float) -> None:
    """
    Let a copy follow the trained adapter: it keeps the share `keep` of itself. Factors are averaged, as everybody in this
    field does, which is not the average of what they multiply to.
    """
    for copy_of, trained in _pairs(model, name):
        blend(copy_of, trained, 1 - keep)


def exchange_with_frozen_copy(model: PeftModel, name: str) -> None:
    """Let a copy and the trained adapter change places. Called by all processes."""
    for copy_of, trained in _pairs(model, name):
        exchange(copy_of, trained)


@contextmanager
def use_frozen_copy(model: PeftModel, name: str | None) -> Iterator[None]:
    """
    Inside, the model has the copy `name` in place of the trained adapter, or with `None` none at all. For what has no
    gradient: which weights are trained stays as it is, since PEFT's own switch goes through all modules twice to say so.
    """
    layers = _layers(model)
    for layer in layers:
        if name is None:
            layer._disable_adapters = True
        else:
            layer._active_adapter = [name]
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters, layer._active_adapter = False, [TRAINED]


def _layers(model: PeftModel) -> list[torch.nn.Module]:
    """The layers that carry adapters, which are looked for once."""
    if model not in _layers_of:
        kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
        _layers_of[model] = [layer for layer in model.modules() if isinstance(layer, kinds)]
    return _layers_of[model]


_layers_of: WeakKeyDictionary[PeftModel, list[torch.nn.Module]] = WeakKeyDictionary()


def save_frozen_copies(model: PeftModel, checkpoint: str | os.PathLike, is_writer: bool) -> None:
    """Write all copies into a checkpoint. Called by all processes, since sharded weights are gathered."""
    names = [name for name in model.peft_config if name != TRAINED]
    weights = {place: whole_weight(parameter) for place, parameter in _copies(model, names).items()}
    if weights and is_writer:
        save_file(weights, Path(checkpoint, FILE))


def load_frozen_copies(model: PeftModel, checkpoint: str | os.PathLike) -> None:
    """Take the copies back from a checkpoint. One that was written without them leaves them as they are."""
    file = Path(checkpoint, FILE)
    if not file.is_file():
        return
    parameters = dict(model.named_parameters())
    for place, weight in load_file(file).items():
        if place in parameters:  # the run that wrote it may have kept another
            copy_whole(weight, parameters[place])


def _copies(model: PeftModel, names: list[str]) -> dict[str, torch.nn.Parameter]:
    marks = tuple(f".{name}." for name in names)
    return {place: p for place, p in model.named_parameters() if any(mark in place for mark in marks)}


def _pairs(model: PeftModel, name: str) -> list[tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """Each weight of a copy, and that of the trained adapter at its place."""
    parameters, mark = dict(model.named_parameters()), f".{name}."
    return [(p, parameters[place.replace(mark, f".{TRAINED}.")]) for place, p in parameters.items() if mark in place]
