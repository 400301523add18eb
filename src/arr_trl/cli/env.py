"""`arr-trl env`: what a bug report needs."""

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

from ..version import __version__


PACKAGES = (
    "arr_trl", "torch", "diffusers", "transformers", "trl", "peft", "accelerate", "datasets", "huggingface_hub",
    "deepspeed", "tokenizers", "pillow", "numpy",
)  # fmt: skip


def run(argv: list[str]) -> int:
    argparse.ArgumentParser(prog="arr-trl env", description=__doc__).parse_args(argv)
    import torch

    lines = {"Platform": platform.platform(), "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            lines[name] = __version__ if name == "arr_trl" else version(name)
        except PackageNotFoundError:
            lines[name] = "not installed"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines["Accelerators"] = ", ".join(devices) or "none"
    lines["CPU threads"] = str(torch.get_num_threads())
    for name, value in lines.items():
        print(f"- {name}: {value}")
    return 0
