"""What several commands refuse before they ask or draw anything."""

from pathlib import Path

from ..folders import check_writable


def check_limit(limit: int | None) -> None:
    """
    Refuse a number of rows that is none.

    Args:
        limit (`int`, *optional*): how many rows to take; unset, all of them.

    Raises:
        `ValueError`: when `limit` takes nothing.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} has to be at least 1.")


def check_file(path: str) -> None:
    """
    Refuse an output that no file can be written to, and make the folder it is in.

    Args:
        path (`str`): what was given as `output`.

    Raises:
        `ValueError`: when `path` is a folder.
        `OSError`: when the folder it is in cannot be written to.
    """
    if Path(path).is_dir():
        raise ValueError(f"output={path} is a folder; name a file in it.")
    check_writable(Path(path).parent, "output")
