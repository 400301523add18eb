"""Functions of the user's own, by their dotted paths, and scorers, by their names."""

import os
import sys
from collections.abc import Callable
from importlib import import_module


# What can be named without its dotted path.
_SCORERS = {
    "aesthetic": "arr_trl.rewards.AestheticScore",
    "clipscore": "arr_trl.rewards.CLIPScore",
    "hpsv3": "arr_trl.rewards.HPSv3",
    "ocr": "arr_trl.rewards.OCRScore",
    "pickscore": "arr_trl.rewards.PickScore",
}


def import_functions(paths: list[str] | None) -> list[Callable]:
    """
    Args:
        paths (`list[str]`, *optional*):
            Dotted paths; as in TRL, a module may stand in the current folder. A class is made with its defaults. Or names
            of scorers, such as `pickscore`, or URLs of their servers.

    Raises:
        `ValueError`: when one cannot be imported.
    """
    if paths and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return [_import(path) for path in paths or []]


def _import(path: str) -> Callable:
    if "://" in path:
        from ..rewards import HTTPScorer

        return HTTPScorer(path)
    module, _, name = _SCORERS.get(path, path).rpartition(".")
    try:
        found = getattr(import_module(module), name)
        return found() if isinstance(found, type) else found
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path!r} cannot be imported ({error}); give a dotted path such as `package.module.f`, or the "
            f"name of a scorer: {', '.join(_SCORERS)}."
        ) from error
