"""
What a base and its adapter are kept and computed in: frozen weights in fewer bits, the adapter in the base's precision,
compiled blocks. For weights in the memory of the host see block_offload.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn.functional import linear
from torch.nn.parallel import DistributedDataParallel


# A block is compiled for sampling, the reference and training, for each memory layout that diffusers gives it, for the
# first shape and for changing ones, and again for the pictures of an evaluation: 15 of FLUX.1's two kinds of block before
# the first evaluation, counted. At 8 of a kind torch would run all that is new uncompiled, with one line in the log.
RECOMPILE_LIMIT = 64


def compress_base(transformer: torch.nn.Module, precision: str | None, compute_dtype: torch.dtype) -> None:
    """
    Keep the frozen weights of a transformer in 8 bits. To be called before the adapter is added, which stays as it is.

    With `"fp8"` a layer's weights are widened to `compute_dtype` for its forward. The backward needs them once more and
    keeps them until then, so the memory is saved only with gradient checkpointing, block by block.

    Args:
        transformer (`torch.nn.Module`): the transformer.
        precision (`str`, *optional*): `"fp8"` (layerwise casting of diffusers), `"int8"` (torchao) or `None`.
        compute_dtype (`torch.dtype`): what the forward computes in.
    """
    if precision == "fp8":
        transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute_dtype)
    elif precision == "int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(transformer, Int8WeightOnlyConfig())


def leave_out_of_ddp(model: torch.nn.Module) -> None:
    """
    Let DDP send no frozen weights from the first process to the others, which have read the same ones. What it sends
    with cannot take 8-bit floats on every backend (gloo: "Invalid scalar type").

    Args:
        model (`torch.nn.Module`): the model that is going to be wrapped, with its adapters.
    """
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    # PyTorch's way to say so until its public interface is finished: https://github.com/pytorch/pytorch/issues/43690
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, frozen)


def compute_in_base_precision(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """
    Let a half-precision base compute as its pipeline does, and its float32 adapter with it. To be used instead of
    autocast around the whole model, which on a GPU widens every normalization to float32 and what is computed from it.

    PEFT widens the input of a layer to float32 for its adapter, and makes three passes over its output to add what the
    adapter gives. At FLUX.1-dev's size both together take as long as a third of the matrix products
    (`benchmarks/estimate.py`). Here the adapter's weights are rounded when they are used, and one product adds to the
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


@contextmanager
def computing_as_released(model: torch.nn.Module) -> Iterator[None]:
    """
    Inside, an adapter computes as it will for who loads it: diffusers rounds the weights of its file, scale included, to
    the base's precision, as here, and the sum once more. The pictures of an evaluation are then theirs to the bit.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _InBasePrecision)]
    for layer in layers:
        layer.as_released = True
    try:
        yield
    finally:
        for layer in layers:
            layer.as_released = False


class _InBasePrecision:
    as_released = False

    def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """`x` is `[..., in_features]`, the output `[..., out_features]`."""
        if self.disable_adapters or self.merged:
            return super().forward(x, *args, **kwargs)
        output = self.base_layer(x, *args, **kwargs)
        for name in self.active_adapters:
            if name in self.lora_A:
                down, up = self.lora_A[name].weight.to(x.dtype), self.lora_B[name].weight
                hidden = linear(self.lora_dropout[name](x), down)
                if self.as_released:  # the file has the scale in its weights
                    output = output + linear(hidden, (up * self.scaling[name]).to(x.dtype))
                    continue
                hidden = hidden * self.scaling[name]
                output = torch.addmm(output.flatten(0, -2), hidden.flatten(0, -2), up.to(x.dtype).t()).view_as(output)
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


def compile_blocks(transformer: torch.nn.Module) -> None:
    """
    Compile the blocks that a transformer of diffusers repeats, each kind once for all of them.

    Args:
        transformer (`torch.nn.Module`): the transformer, with its adapter.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, RECOMPILE_LIMIT)
    transformer.compile_repeated_blocks()
