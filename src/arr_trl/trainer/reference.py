"""What the KL penalty holds on to: the base, or the adapter that training began with."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import PeftModel

from ..release import load_weights


REFERENCE_ADAPTER = "reference"


def add_reference(model: PeftModel, weights: dict[str, torch.Tensor], path: str) -> None:
    """
    Put a frozen copy of the starting adapter beside the one that is trained. It is not saved.

    Args:
        model ([`~peft.PeftModel`]): the model, with the trained adapter as `"default"`.
        weights (`dict[str, torch.Tensor]`): weights of the starting adapter.
        path (`str`): where they came from.
    """
    model.add_adapter(REFERENCE_ADAPTER, copy.deepcopy(model.peft_config["default"]))
    load_weights(model, weights, REFERENCE_ADAPTER, path)
    model.set_adapter("default")  # which freezes the other one


@contextmanager
def reference_policy(model: PeftModel, reference: str) -> Iterator[None]:
    """Inside, the model is the reference: without its adapter (`"base"`), or with the frozen one (`"adapter"`)."""
    if reference == "base":
        with model.disable_adapter():
            yield
        return
    model.set_adapter(REFERENCE_ADAPTER, inference_mode=True)
    try:
        yield
    finally:
        model.set_adapter("default")
