"""What fills a disk in tests that have the fixture `disk`."""

from contextlib import suppress
from pathlib import Path


def fill(folder: Path, leave: int = 0) -> None:
    """Write a file until nothing more fits, and give `leave` bytes back."""
    with open(folder / "ballast", "wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(4096)):
                pass
        file.truncate(max(file.tell() - leave, 0))
