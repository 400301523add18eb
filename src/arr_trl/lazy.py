"""Names of a package that are imported when they are first used, so that what needs one file does not load the others."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


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
        return getattr(import_module(files[name], package), name)

    return get
