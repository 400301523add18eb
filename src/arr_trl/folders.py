"""
Whether a folder can be written to, and what one in the Hub's cache is called. Commands and the trainer ask it first, so
that it imports nothing heavy.
"""

import os
import tempfile
from pathlib import Path


def check_writable(folder: str | os.PathLike, setting: str) -> None:
    """
    Make a folder, with those above it, and write to it.

    Args:
        folder (`str` or `os.PathLike`): the folder.
        setting (`str`): what the user gave it as, for the error.

    Raises:
        `OSError`: when it cannot be made or written to.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # a name of its own for every process of a run
            pass
    except OSError as error:
        raise OSError(
            f"The folder {folder} cannot be written to ({error.strerror}); choose another `{setting}`."
        ) from error


def hub_name(source: str) -> str:
    """
    What a model or dataset is called: `user/name` for a snapshot folder in the Hub's cache, whose last part is a hash that
    says nothing (`.../models--user--name/snapshots/<hash>`), and anything else as it is.
    """
    snapshots = Path(source).resolve().parent
    kind, *name = snapshots.parent.name.split("--")
    return "/".join(name) if snapshots.name == "snapshots" and kind in ("models", "datasets") and name else source
