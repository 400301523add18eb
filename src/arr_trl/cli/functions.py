"""Functions of the user's own, by their dotted paths."""

import os
import sys
from collections.abc import Callable
from importlib import import_module


def import_functions(paths: list[str] | None) -> list[Callable]:
    """
    Args:
        paths (`list[str]`, *optional*): dotted paths; as in TRL, a module may stand in the current folder.

    Raises:
        `ValueError`: when one cannot be imported.
    """
    if paths and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return [_import(path) for path in paths or []]


def _import(path: str) -> Callable:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path!r} cannot be imported ({error}); give a dotted path such as `package.module.f`."
        ) from error
