"""An average of what is trained over its steps, which is what is evaluated and released where it is asked for."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from ..runtime.full_weights import FullWeights
from .flow_config import FlowConfig
from .frozen_adapters import EMA, FILE, TRAINED, exchange_with_frozen_copy
from .frozen_copies import Trained, blend_frozen_copy, copy_file


class EMACallback(TrainerCallback):
    """
    Lets the average follow after each optimizer step, as Flow-GRPO and DiffusionNFT do: it keeps min((1 + k) / (10 + k),
    `ema_decay`) of itself after step k, so that the beginning is soon forgotten.
    """

    def on_step_end(self, args: FlowConfig, state, control, model: Trained | None = None, **kwargs) -> None:
        k = state.global_step
        blend_frozen_copy(model, EMA, min((1 + k) / (10 + k), args.ema_decay))


@contextmanager
def released_weights(model: Trained) -> Iterator[None]:
    """
    Inside, what is trained has the weights of the average, where there is one. Called by all processes, which move
    what each of them holds.
    """
    if isinstance(model, FullWeights):
        with model.use(EMA) if EMA in model.kept else nullcontext():
            yield
        return
    if EMA not in model.peft_config:
        yield
        return
    exchange_with_frozen_copy(model, EMA)
    try:
        yield
    finally:
        exchange_with_frozen_copy(model, EMA)


def average_in(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The average that a checkpoint holds, by the names of the trained weights; empty where it holds none."""
    if copy_file(checkpoint, EMA).is_file():
        return load_file(copy_file(checkpoint, EMA))
    file = checkpoint / FILE
    weights = load_file(file) if file.is_file() else {}
    mark = f".{EMA}."
    return {place.replace(mark, f".{TRAINED}."): weight for place, weight in weights.items() if mark in place}
