"""Tokens drawn with random numbers that are a trace's own, so that it is the same whatever is written beside it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class OwnDraws(TorchFunctionMode):
    """
    Inside it, `torch.multinomial` draws one token for each row with the row's own generator. transformers calls that to
    sample, after all that a generation configuration does to the probabilities, and with the one generator of the process:
    what a row gets then depends on how many there are, and so on the number of devices.

    Args:
        generators (`Sequence[torch.Generator]`): one for each row, on the CPU; each token takes one number of each.
    """

    def __init__(self, generators: Sequence[torch.Generator]):
        super().__init__()
        self.generators = generators

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.multinomial:
            return self._draw(args[0])
        return func(*args, **(kwargs or {}))

    def _draw(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Where the sum of the probabilities `[B, V]` passes each row's number: `[B, 1]`."""
        numbers = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in self.generators])
        sums = probabilities.double().cumsum(-1)
        return torch.searchsorted(sums, numbers.to(sums.device) * sums[:, -1:], right=True)
