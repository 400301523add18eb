"""The adapter of a base in half precision: float32 weights that compute in the base's precision."""

from functools import cache

import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn.functional import linear


def compute_in_base_precision(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """
    Let a half-precision base compute as its pipeline does, and its float32 adapter with it. To be used instead of
    autocast around the whole model, which on a GPU widens every normalization to float32 and what is computed from it.

    PEFT widens the input of a layer to float32 for its adapter, and makes three passes over its output to add what the
    adapter gives. At FLUX.1-dev's size both together take as long as a third of the matrix products
    (`benchmarks/roofline.py`). Here the adapter's weights are rounded when they are used, and one product adds to the
    output.

    Args:
        model (`torch.nn.Module`): a transformer with an adapter of PEFT.
        dtype (`torch.dtype`): precision of the base.
    """
    for layer in model.modules():
        if isinstance(layer, Linear) and not layer.lora_variant and not any(layer.lora_bias.values()):
            layer.__class__ = _mixed(_InBasePrecision, type(layer))
        elif isinstance(layer, BaseTunerLayer):  # DoRA, convolutions and all else compute as PEFT has it
            layer.__class__ = _mixed(_UnderAutocast, type(layer))
            layer.base_precision = dtype


class _InBasePrecision:
    def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """`x` is `[..., in_features]`, the output `[..., out_features]`."""
        if self.disable_adapters or self.merged:
            return super().forward(x, *args, **kwargs)
        output = self.base_layer(x, *args, **kwargs)
        for name in self.active_adapters:
            if name in self.lora_A:
                down, up = (matrices[name].weight.to(x.dtype) for matrices in (self.lora_A, self.lora_B))
                hidden = linear(self.lora_dropout[name](x), down) * self.scaling[name]
                output = torch.addmm(output.flatten(0, -2), hidden.flatten(0, -2), up.t()).view_as(output)
        return output


class _UnderAutocast:
    def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        with torch.autocast(x.device.type, self.base_precision):
            return super().forward(x, *args, **kwargs)


@cache
def _mixed(mixin: type, layer: type) -> type:
    """
    One class for all layers of a kind. A function that each layer had of its own would do, but `torch.compile` would
    compile every block anew for it, and stop at the eighth.
    """
    return type(layer.__name__, (mixin, layer), {})
