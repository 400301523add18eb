"""
Names of a package that are imported when they are first used, so that what needs one file does not load the others, and what
libraries say while they are imported that nobody can act on.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


# By logger, what is in the remarks that are left out. Each is about the library's own parts: kernels for other GPUs, a
# decorator that one of them uses, image processors that do the same without torchvision, and that DeepSpeed, which a run on
# a CPU does not use, finds no GPU.
_REMARKS = {
    "DeepSpeed": "Setting accelerator to CPU",
    "diffusers.quantizers.torchao.torchao_quantizer": "Unable to import `torchao` Tensor objects",
    "torch.utils._pytree": "Calling register_constant() on Enum subclasses",
    "torchao": "Failed to load ",
    "transformers.utils.import_utils": "requires torchvision (not installed); falling back to",
}


def from_files(package: str, files: dict[str, str]) -> Callable[[str], Any]:
    """
    The `__getattr__` of a package.

    Args:
        package (`str`): its `__name__`.
        files (`dict[str, str]`): for each public name, the module that has it, as a relative import.

    Returns:
        `Callable`: takes a name and returns what it stands for; it raises an `AttributeError` for any other.
    """

    def get(name: str) -> Any:
        if name not in files:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with without_remarks():
            return getattr(import_module(files[name], package), name)

    return get


@contextmanager
def without_remarks() -> Iterator[None]:
    """In which libraries are imported, and their image processors made, without remarks about themselves."""
    filters = [(logging.getLogger(name), _without(text)) for name, text in _REMARKS.items()]
    for logger, without in filters:
        logger.addFilter(without)
    try:
        yield
    finally:
        for logger, without in filters:
            logger.removeFilter(without)


def _without(text: str) -> Callable[[logging.LogRecord], bool]:
    return lambda record: text not in record.getMessage()
