"""
Folders that are written to, and what one in the Hub's cache is called. Commands and the trainer ask here first, so that it
imports nothing heavy.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """
    A file of the same name to write in place of `path`, so that readers see a whole file, the old one or the new.

    It is moved there when the block ends, and removed when the block raises. Several processes may do so at once: the
    last one stands. The folder is made where it is missing.

    Args:
        path (`str` or `os.PathLike`): the file.

    Raises:
        `OSError`: when it cannot be written.
    """
    path = Path(path)
    with replacing_files(path.parent, [path.name]) as written:
        yield written / path.name


@contextmanager
def replacing_files(folder: str | os.PathLike, names: Sequence[str]) -> Iterator[Path]:
    """
    [`replacing`] for files of one folder that are written together: a folder beside them to write to, of which the
    files in `names` are moved when the block ends, each in one step, and all else is removed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # on a disk that has become read-only nothing can be removed: what is told is that writing failed
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder, ignore_cleanup_errors=True) as written:
        yield Path(written)
        for name in names:
            os.replace(Path(written, name), folder / name)


@contextmanager
def replacing_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """
    [`replacing`] for a whole folder, whose files belong together: an empty one beside it to write to, which takes its place
    when the block ends.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder.parent, ignore_cleanup_errors=True) as beside:
        written = Path(beside, "new")
        written.mkdir()
        yield written
        if folder.exists():
            os.replace(folder, Path(beside, "old"))
        os.replace(written, folder)


def hub_name(source: str) -> str:
    """
    What a model or dataset is called: `user/name` for a snapshot folder in the Hub's cache, whose last part is a hash that
    says nothing (`.../models--user--name/snapshots/<hash>`), and anything else as it is.
    """
    snapshots = Path(source).resolve().parent
    kind, *name = snapshots.parent.name.split("--")
    return "/".join(name) if snapshots.name == "snapshots" and kind in ("models", "datasets") and name else source
