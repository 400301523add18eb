"""What several commands refuse before they ask or draw anything."""

import tempfile
from pathlib import Path


def check_limit(limit: int | None) -> None:
    """
    Raises:
        `ValueError`: when `limit` takes nothing.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} has to be at least 1.")


def check_file(path: str) -> None:
    """
    Raises:
        `ValueError`: when no file can be written at `path`.
    """
    if Path(path).is_dir():
        raise ValueError(f"output={path} is a folder; name a file in it.")
    check_folder(str(Path(path).parent))


def check_folder(path: str) -> None:
    """
    Make a folder, with those above it.

    Raises:
        `ValueError`: when it cannot be made or written to.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written to as a folder ({error.strerror}); choose another `output`."
        ) from error
