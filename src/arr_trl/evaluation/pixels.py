"""How different pictures are, in pixels: whether a model still draws different pictures, and how far it went from its base."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from PIL import Image


_LONGEST = 256  # pixels; larger pictures are scaled down, which changes these means little


def pixel_distance(first: Image.Image, second: Image.Image) -> float:
    """
    Mean absolute difference of two pictures of one size, 0 (the same) to 1.

    Raises:
        `ValueError`: when the sizes differ.
    """
    if first.size != second.size:
        raise ValueError(
            f"Pictures of {first.size} and {second.size} pixels cannot be compared; draw both in one size."
        )
    a, b = (as_floats(image) for image in (first, second))
    return float(np.abs(a - b).mean()) / 255


def pixel_diversity(images: Sequence[Image.Image]) -> float | None:
    """
    Mean distance of every two pictures of one prompt, 0 to 1. A model that collapses draws the same picture from every
    noise, and this falls towards 0. `None` for a single picture.
    """
    distances = [pixel_distance(a, b) for a, b in combinations(images, 2)]
    return sum(distances) / len(distances) if distances else None


def as_floats(image: Image.Image) -> np.ndarray:
    """A picture as `[H, W, 3]` in float32, 0 to 255, scaled down to at most 256 pixels."""
    image = image.convert("RGB")
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32)
