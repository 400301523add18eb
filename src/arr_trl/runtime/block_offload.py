"""Blocks whose frozen weights live in the memory of the host, and come to the device for their forward alone."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import torch


class BlockOffload:
    """
    Keep the frozen weights of a transformer's blocks in the host's memory and load each block before its forward, while
    the one before it computes. Two blocks are on the device at a time. Adapters, buffers and all that is not in a block
    stay there. To be made when adapters have been added; moving the transformer afterwards moves no offloaded weight.

    Group offloading of diffusers is made for inference. In training its weights leave before the backward that needs
    them, or with gradient checkpointing come for the recomputation and stay. Here a block leaves when the next one
    comes, in both directions. A backward keeps weights it has saved of its own block, because checkpointing saves
    references of its own, so the transformer has to checkpoint its blocks.

    Args:
        transformer (`torch.nn.Module`): a transformer of diffusers; its blocks are of the classes it does not split.
        device (`torch.device`): where the blocks compute.
        staying (`Sequence[str]`, *optional*): names of parts of it whose blocks it does not checkpoint, and which stay.

    Raises:
        ValueError: a weight is of a class that cannot be moved in place, as quantized ones are; or there are no blocks.
    """

    def __init__(self, transformer: torch.nn.Module, device: torch.device, staying: Sequence[str] = ()):
        # LongCat-Image's has the second name alone
        classes = transformer._no_split_modules or transformer._repeated_blocks or ()
        self.blocks = [
            module
            for name, module in transformer.named_modules()
            if type(module).__name__ in classes and name.split(".")[0] not in staying
        ]
        if not self.blocks:
            raise ValueError(
                f"offload_blocks cannot find the blocks of {type(transformer).__name__}, whose `_no_split_modules` names "
                "their classes in other transformers. Leave it out."
            )
        self.device = device
        self._stream = None if device.type == "cpu" else torch.Stream(device)
        self._on_device: set[int] = set()
        self._last = 0
        self._home = []  # for each block its frozen parameters and where they live
        for i, block in enumerate(self.blocks):
            frozen = [p for p in block.parameters() if not p.requires_grad]
            for parameter in frozen:
                if type(parameter.data) is not torch.Tensor:
                    raise ValueError(
                        f"offload_blocks cannot move weights of class {type(parameter.data).__name__}. Use it with a "
                        'base that is not quantized or base_precision="fp8", or leave it out.'
                    )
            self._home.append([(p, self._keep(p.data)) for p in frozen])
            self._unload(i)
            block.register_forward_pre_hook(partial(self._enter, i))

    def _keep(self, weight: torch.Tensor) -> torch.Tensor:
        # pinned memory is what copies can overlap with computing from
        return weight if self._stream is None else weight.cpu().pin_memory()

    @torch.no_grad()
    def _enter(self, i: int, block: torch.nn.Module, args: tuple) -> None:
        # recomputation for a backward takes the blocks in descending order, from the last
        following = (i + 1 if i == self._last + 1 or i == 0 else i - 1) % len(self.blocks)
        self._last = i
        for other in self._on_device - {i, following}:
            self._unload(other)
        if i not in self._on_device:
            self._load(i)
        if self._stream is not None:
            torch.accelerator.current_stream(self.device).wait_stream(self._stream)
        if following not in self._on_device:
            self._load(following)

    def _load(self, i: int) -> None:
        if self._stream is not None:
            # memory of a block that has left may still be read by what is queued
            self._stream.wait_stream(torch.accelerator.current_stream(self.device))
        with nullcontext() if self._stream is None else self._stream:
            for parameter, home in self._home[i]:
                parameter.data = home.to(self.device, non_blocking=True)
        self._on_device.add(i)

    def _unload(self, i: int) -> None:
        for parameter, home in self._home[i]:
            parameter.data = torch.empty(0, dtype=home.dtype, device=self.device)
        self._on_device.discard(i)
