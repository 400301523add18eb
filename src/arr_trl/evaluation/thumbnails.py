"""Small pictures inside a page, as WebP in blocks of JSON that its script parses when they are shown."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from .page import json_of_page


PER_BLOCK = 60
# Longest side of a thumbnail by how many pictures there are at most: about 50 MB in a file at the worst.
_SIZES = ((1_000, 320), (4_000, 192), (10_000, 128), (None, 96))


def longest_side(pictures: int) -> int:
    """Pixels of a thumbnail where there are so many."""
    return next(side for most, side in _SIZES if most is None or pictures <= most)


def thumbnail(image: Image.Image, size: int) -> str:
    """WebP in base64, not larger than `size`."""
    image = image.convert("RGB")
    tiny = max(image.size) <= 64  # every pixel counts, and lossless is small
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", lossless=tiny, quality=70, method=2)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def blocks_of(thumbnails: Iterable[str]) -> Iterator[Markup]:
    """Blocks as the page's script looks for them."""
    left = iter(thumbnails)
    while some := list(islice(left, PER_BLOCK)):
        yield json_of_page(some)


def of_files(paths: Sequence[Path], size: int) -> Iterator[str]:
    """Thumbnails of pictures in files, one at a time in memory."""
    for path in paths:
        with Image.open(path) as image:
            yield thumbnail(image, size)


def fitted(size: tuple[int, int], longest: int) -> list[int]:
    """Width and height of a thumbnail."""
    scale = min(1.0, longest / max(size))
    return [max(1, round(side * scale)) for side in size]
