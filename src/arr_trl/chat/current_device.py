"""The device of a thread: PyTorch keeps one for each, and in a new thread it is the first."""

from contextlib import AbstractContextManager, nullcontext

import torch


def on_device(device: torch.device) -> AbstractContextManager:
    """
    Inside, what this thread allocates and launches without naming a device is on this one. A process that trains on its
    fourth GPU would otherwise have a context, streams and kernels of its judge on the first, in the way of who trains there.

    Args:
        device (`torch.device`): where the model is; of a CPU there is nothing to say.
    """
    if device.type == "cpu" or device.index is None:
        return nullcontext()
    return torch.accelerator.device_index(device.index)
