"""Metrics that stay on the device until they are logged, and the switch between adapters."""

import math

import torch
from test_rpo_trainer import trainer_for

from arr_trl.trainer.frozen_adapters import REFERENCE, add_frozen_copy, use_frozen_copy
from arr_trl.trainer.measured import numbers, where


def test_numbers_come_in_order_and_what_is_none_is_left_out():
    tensors = [torch.tensor([[1.0, math.nan], [0.5, 3.0]]), torch.tensor(4.0)]
    assert numbers([7.25, *tensors, 0.1]) == [7.25, 1, 0.5, 3, 4, 0.1]
    assert numbers([0.1, 2]) == [0.1, 2.0]
    assert numbers([]) == []


def test_what_is_masked_is_no_value_and_keeps_no_graph():
    values = torch.tensor([1.0, 2.0], requires_grad=True) * 2
    kept = where(torch.tensor([True, False]), values)
    assert not kept.requires_grad
    assert numbers([kept]) == [2.0]


def test_switching_adapters_asks_no_layer_which_weights_are_trained(flux_pipeline, tmp_path, monkeypatch):
    """PEFT's own switch went through all modules of the network twice for every reference."""
    model = trainer_for(flux_pipeline, tmp_path).model
    add_frozen_copy(model, REFERENCE)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01 if "default" in name else 0.02)
    layer = next(m for m in model.modules() if hasattr(m, "lora_A"))
    x = torch.ones(1, layer.in_features)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    before, base = layer(x), layer.base_layer(x)
    with use_frozen_copy(model, None):  # the layers are found here
        assert torch.equal(layer(x), base)

    monkeypatch.setattr(torch.nn.Module, "modules", None)
    monkeypatch.setattr(torch.nn.Module, "requires_grad_", None)
    with use_frozen_copy(model, REFERENCE):
        torch.testing.assert_close(layer(x) - base, 2 * (before - base))
    with use_frozen_copy(model, None):
        assert torch.equal(layer(x), base)
    assert torch.equal(layer(x), before)
    monkeypatch.undo()
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
