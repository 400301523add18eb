"""
What a pass through a network takes, counted on torch's device without memory: its operations, the least time they need, and
the bytes that are alive at once. With the kernels that GPUs have for attention and RMSNorm; what an allocator and a CUDA
context add is not in it.
"""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Count(TorchDispatchMode):
    """
    Counts operations, the least time they take and the most memory that is alive, beside what was there before.

    Args:
        flops_per_s (`float`, *optional*): speed of a large matrix product; infinite by default.
        bytes_per_s (`float`, *optional*): what is read and written in a second; infinite by default.
        there (`Iterable[torch.Tensor]`, *optional*):
            Tensors from before of which some may go meanwhile, as weights in 8 bits do when they are widened and made again.
    """

    def __init__(
        self,
        flops_per_s: float = math.inf,
        bytes_per_s: float = math.inf,
        there: Iterable[torch.Tensor] = (),
    ):
        super().__init__()
        self.flops_per_s, self.bytes_per_s = flops_per_s, bytes_per_s
        self.flops, self.seconds, self.peak_bytes = 0, 0.0, 0
        self._alive = 0
        for storage in {x.untyped_storage() for x in there}:
            weakref.finalize(storage, self._forget, storage.nbytes())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        results = [x for x in tree_leaves(output) if isinstance(x, torch.Tensor)]
        made = [x for x in results if self._is_new(x, args, kwargs)]
        for x in made:
            self._follow(x.untyped_storage())
        in_place = func._schema.is_mutable
        if made or in_place:
            read = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            moved = sum(map(num_bytes, read)) + sum(map(num_bytes, made or results[:1]))
            counts = flop_registry.get(func._overloadpacket)
            flops = counts(*args, **kwargs, out_val=output) if counts else 0
            self.flops += flops
            if not func.name().startswith(("aten::empty", "aten::new_empty")):
                self.seconds += max(flops / self.flops_per_s, moved / self.bytes_per_s)
        return output

    @staticmethod
    def _is_new(x: torch.Tensor, args, kwargs) -> bool:
        given = {y.untyped_storage()._cdata for y in tree_leaves((args, kwargs)) if isinstance(y, torch.Tensor)}
        return x.untyped_storage()._cdata not in given

    def _follow(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._alive += size
        self.peak_bytes = max(self.peak_bytes, self._alive)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self._alive -= size


def num_bytes(x: torch.Tensor) -> int:
    """Of the numbers that have to be read, once where they are repeated."""
    return x.element_size() * math.prod(size for size, stride in zip(x.shape, x.stride(), strict=True) if stride)


def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """`scaled_dot_product_attention` as a GPU computes it, which keeps no matrix of all pairs of tokens."""
    bf16 = (x.bfloat16() for x in (query, key, value))  # some are wider under autocast
    return torch.ops.aten._scaled_dot_product_flash_attention(*bf16, scale=scale)[0].to(value.dtype)


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """`rms_norm` as one kernel, which a device without kernels takes apart."""
    return _fused_rms_norm()(input, weight)[0]


@contextmanager
def kernels_of_gpus() -> Iterator[None]:
    """In which torch's functions for attention and RMSNorm are those of a GPU, for tensors without memory."""
    functional = torch.nn.functional
    before = functional.scaled_dot_product_attention, functional.rms_norm
    functional.scaled_dot_product_attention, functional.rms_norm = attention, rms_norm
    try:
        yield
    finally:
        functional.scaled_dot_product_attention, functional.rms_norm = before


@cache  # torch takes a name once
def _fused_rms_norm() -> Callable:
    @torch.library.custom_op("arr_trl::counted_rms_norm", mutates_args=())
    def forward(x: torch.Tensor, weight: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.empty_like(x), x.new_empty(*x.shape[:-1], 1, dtype=torch.float32)

    @torch.library.custom_op("arr_trl::counted_rms_norm_backward", mutates_args=())
    def backward(grad: torch.Tensor, x: torch.Tensor, rstd: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        return torch.empty_like(x)

    forward.register_fake(forward._init_fn)
    backward.register_fake(backward._init_fn)
    forward.register_autograd(
        lambda ctx, grad, _: (backward(grad, *ctx.saved_tensors), None),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0], output[1], inputs[1]),
    )
    return forward
