"""Registers the device of device.cpp with torch, as `hpu`. A process that has it cannot get rid of it again."""

import contextlib
import types
from pathlib import Path

import torch
from torch.utils.cpp_extension import load


def register() -> types.ModuleType:
    """Compile the device where that was not done yet (half a minute), and make it known to torch and accelerate."""
    counters = load("arr_trl_second_device", [str(Path(__file__).with_name("device.cpp"))], extra_cflags=["-O1"])
    module = types.ModuleType("torch.hpu")
    module.is_available = module.is_initialized = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module._lazy_init = module.empty_cache = lambda: None
    module.synchronize = lambda device=None: counters.synchronize()
    module.set_device = lambda device: None
    module.device = contextlib.nullcontext
    for name in (
        "copied_to_device", "copies", "copies_beside_kernels", "host_waits", "max_memory_allocated", "memory_allocated",
        "reset_peak_memory_stats", "take_violations",
    ):  # fmt: skip
        setattr(module, name, getattr(counters, name))
    torch._register_device_module("hpu", module)
    return module
