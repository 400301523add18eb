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
    module.synchronize = lambda device=None: None
    module.device = contextlib.nullcontext
    module.host_waits = counters.host_waits
    module.memory_allocated = counters.memory_allocated
    module.max_memory_allocated = counters.max_memory_allocated
    module.reset_peak_memory_stats = counters.reset_peak_memory_stats
    torch._register_device_module("hpu", module)
    return module
