"""Whether a folder can be written to. Commands and the trainer ask it first, so that it imports nothing heavy."""

import os
import tempfile


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
