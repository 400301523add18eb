"""An average of the trained adapter over its steps, which is what is evaluated and released where it is asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import TrainerCallback

from .flow_config import FlowConfig
from .frozen_adapters import EMA, FILE, TRAINED, blend_frozen_copy, exchange_with_frozen_copy


class EMACallback(TrainerCallback):
    """
    Lets the average follow after each optimizer step, as Flow-GRPO and DiffusionNFT do: it keeps min((1 + k) / (10 + k),
    `ema_decay`) of itself after step k, so that the beginning is soon forgotten.
    """

    def on_step_end(self, args: FlowConfig, state, control, model: PeftModel | None = None, **kwargs) -> None:
        k = state.global_step
        blend_frozen_copy(model, EMA, min((1 + k) / (10 + k), args.ema_decay))


@contextmanager
def released_weights(model: PeftModel) -> Iterator[None]:
    """
    Inside, the trained adapter has the weights of the average, where there is one. Called by all processes, which move
    what each of them holds.
    """
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
    file = checkpoint / FILE
    weights = load_file(file) if file.is_file() else {}
    mark = f".{EMA}."
    return {place.replace(mark, f".{TRAINED}."): weight for place, weight in weights.items() if mark in place}
