"""
All weights of a transformer as what is trained: kept in float32, read in the precision that its pipeline computes in, with
frozen copies of all of them beside.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch.distributed.tensor import DTensor

from .sharding import copy_whole, local_part, whole_weight


BASE = "base"  # the weights as they were loaded


class FullWeights(torch.nn.Module):
    """
    A transformer of diffusers all of whose weights are trained.

    A step of AdamW at the rates of fine-tuning is smaller than what bfloat16 can tell apart, so that weights in half
    precision are widened to float32 here, as those of TRL are, and rounded again where they are read: what computes is the
    network that the pipeline would have, with bfloat16 weights.

    A copy is a second set of tensors and no part of the module, so that no optimizer, wrapper or release knows of it. It is
    in the memory of the host, from which each weight comes to the device when it is read. Where FSDP2 shards the module, a
    copy is sharded alike, on the device.

    Args:
        transformer (`torch.nn.Module`): the transformer.
        copies (`Sequence[str]`, *optional*):
            Names of the copies to keep; `"base"` is in the precision that was loaded, others are in float32.
        widen (`bool`, *optional*, defaults to `True`):
            Keep the weights in float32; without it as they are, for DeepSpeed, which has its own of float32.
    """

    def __init__(self, transformer: torch.nn.Module, copies: Sequence[str] = (), widen: bool = True):
        super().__init__()
        self.transformer = transformer.requires_grad_(True)
        self.copies: dict[str, dict[str, torch.Tensor]] = {}
        self._names = tuple(copies)
        self._no_split_modules = transformer._no_split_modules  # what FSDP shards by
        self._read_from: dict[str, torch.Tensor] | None = None
        self.dtypes = {place: weight.dtype for place, weight in transformer.named_parameters()}
        if widen:
            for weight in transformer.parameters():
                weight.data = weight.data.to(torch.promote_types(weight.dtype, torch.float32))

    def forward(self, *args, **kwargs):
        return self.transformer(*args, **kwargs)

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the copies, whether they are there already or come with the shards."""
        return self._names

    @torch.no_grad()
    def add_copies(self) -> None:
        """Make the copies that are not there yet, of the weights as they are now."""
        for name in self._names:
            if name not in self.copies:
                self.copies[name] = {
                    place: _beside(weight, self.dtypes[place] if name == BASE else torch.float32)
                    for place, weight in self.transformer.named_parameters()
                }

    def read_as_loaded(self) -> None:
        """
        Let each weight be read in the precision that was loaded, and inside [`~FullWeights.use`] from a copy. Not for
        FSDP2, which puts whole weights in place of its shards itself, in the precision that it was told.
        """
        for path, module in self.transformer.named_modules():
            if module._parameters or module is self.transformer:
                prefix = f"{path}." if path else ""
                module.__class__ = _reading(type(module), _Root if module is self.transformer else _Reading)
                module.read_weight = lambda name, weight, prefix=prefix: self._read(prefix + name, weight)
        self.transformer.computes_in = next(iter(self.dtypes.values()))

    def _read(self, place: str, weight: torch.Tensor) -> torch.Tensor:
        if self._read_from is not None:
            weight_of_copy = self._read_from[place]
            return weight_of_copy.to(weight.device, self.dtypes[place], non_blocking=True)
        return weight.to(self.dtypes[place])

    @contextmanager
    def use(self, name: str) -> Iterator[None]:
        """
        Inside, the network computes with the copy `name`, without gradient. Called by all processes.

        Raises:
            `RuntimeError`: when there is no such copy.
        """
        if name not in self.copies:
            raise RuntimeError(
                f"No copy {name!r} of the weights is kept: nothing of this run seemed to need it when the trainer was made. Give "
                "the trainer an `eval_dataset`, or let the penalty on the reference count."
            )
        if self._is_sharded():
            with self._in_place_of_shards(self.copies[name]):
                yield
            return
        before, self._read_from = self._read_from, self.copies[name]
        try:
            yield
        finally:
            self._read_from = before

    @contextmanager
    def _in_place_of_shards(self, weights: dict[str, torch.Tensor]) -> Iterator[None]:
        # FSDP2 gathers from the shards: those of the copy stand there meanwhile. Nothing is written to the copy
        trained = {place: local_part(weight) for place, weight in self.transformer.named_parameters()}
        with torch.no_grad():
            kept = {place: weight.clone() for place, weight in trained.items()}
            for place, weight in weights.items():
                trained[place].copy_(local_part(weight))
        try:
            yield
        finally:
            with torch.no_grad():
                for place, weight in kept.items():
                    trained[place].copy_(weight)

    @torch.no_grad()
    def blend(self, name: str, keep: float) -> None:
        """Let a copy follow the trained weights: it keeps the share `keep` of itself."""
        trained = dict(self.transformer.named_parameters())
        for place, weight in self.copies[name].items():
            weight, followed = local_part(weight), local_part(trained[place]).detach()
            weight.lerp_(followed.to(weight.device, weight.dtype), 1 - keep)

    def whole(self, gathered: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """
        All weights and buffers as the network has them now, inside [`~FullWeights.use`] with those of the copy.

        Args:
            gathered (`dict[str, torch.Tensor]`, *optional*): the module's state dict, where it has to be gathered first.
        """
        own = self.state_dict() if gathered is None else gathered
        weights = {name.removeprefix("transformer."): weight for name, weight in own.items()}
        return weights | (self._read_from or {})

    def whole_copy(self, name: str, is_writer: bool) -> dict[str, torch.Tensor]:
        """A copy on the CPU of the process that writes it. Called by all, since shards are gathered."""
        whole = {}
        for place, weight in self.copies[name].items():
            gathered = whole_weight(weight)
            if is_writer:
                whole[place] = gathered
        return whole

    @torch.no_grad()
    def load_copy(self, name: str, weights: dict[str, torch.Tensor]) -> None:
        """Give a copy the values of whole weights."""
        for place, weight in weights.items():
            copy_whole(weight, self.copies[name][place])

    @torch.no_grad()
    def load_whole(self, weights: dict[str, torch.Tensor]) -> None:
        """
        Give the trained weights, sharded or not, the values of whole ones.

        Raises:
            `ValueError`: when they are those of another transformer.
        """
        own = self.transformer.state_dict(keep_vars=True)
        if own.keys() != weights.keys():
            other = sorted(own.keys() ^ weights.keys())
            raise ValueError(f"These are the weights of another transformer: {len(other)} differ, such as {other[0]}.")
        for place, weight in weights.items():
            copy_whole(weight, own[place])

    def as_released(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Whole weights in the precision that they were loaded in, by which evaluations draw."""
        return {place: weight.to(self.dtypes.get(place, weight.dtype)) for place, weight in weights.items()}

    def _is_sharded(self) -> bool:
        return any(isinstance(weight, DTensor) for weight in self.transformer.parameters())


def add_copies_of_shards(model: torch.nn.Module) -> None:
    """Make the copies of a sharded model, where all its weights are trained."""
    if isinstance(model, FullWeights):
        model.add_copies()


def _beside(weight: torch.nn.Parameter, dtype: torch.dtype) -> torch.Tensor:
    """A copy of a weight, where copies are kept."""
    if isinstance(weight, DTensor):
        return weight.detach().clone().to(dtype)
    copy = weight.detach().to("cpu", dtype, copy=True)
    return copy.pin_memory() if torch.cuda.is_available() else copy


class _Reading:
    """A module whose weights are read through `read_weight`, by whoever names them."""

    read_weight: Callable[[str, torch.Tensor], torch.Tensor]

    def __getattr__(self, name: str):
        value = super().__getattr__(name)  # torch looks for parameters here
        if value is not None and name in self._parameters:
            return self.read_weight(name, value)
        return value


class _Root(_Reading):
    computes_in: torch.dtype

    @property
    def dtype(self) -> torch.dtype:
        """What pipelines and forwards of diffusers ask for, which its own property takes from the weights as they are kept."""
        return self.computes_in


@cache
def _reading(module: type, mixin: type) -> type:
    """One class for all modules of a kind, called as it was: configurations and cards say the name."""
    return type(module.__name__, (mixin, module), {})
