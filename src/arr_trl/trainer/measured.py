"""Numbers that a step measures, which stay on the device until they are logged: to ask for one waits for all before it."""

from collections.abc import Sequence

import torch


def where(active: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """`values` without gradient where `active`, and NaN, which is no value, elsewhere; both of one shape."""
    return torch.where(active, values.detach().float(), torch.nan)


def numbers(measured: Sequence[float | torch.Tensor]) -> list[float]:
    """
    What was measured, in order, without what is no value.

    Args:
        measured (`Sequence[float | torch.Tensor]`): numbers, and tensors of them of any shape, NaN where there is none.
    """
    tensors = [value.flatten() for value in measured if isinstance(value, torch.Tensor)]
    if not tensors:
        return [float(value) for value in measured]
    read = iter(torch.cat(tensors).tolist())  # one wait for all
    sizes = [value.numel() if isinstance(value, torch.Tensor) else None for value in measured]
    lists = [
        [float(value)] if size is None else [next(read) for _ in range(size)]
        for value, size in zip(measured, sizes, strict=True)
    ]
    return [number for some in lists for number in some if number == number]
