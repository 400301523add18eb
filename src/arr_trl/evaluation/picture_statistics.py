"""What can be measured of pictures without knowing what they show: where a reward is gamed, these run away first."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import correlate

from .pixels import as_floats


STATISTICS = ("saturation", "contrast", "edge_density", "sharpness")
# Sobel's kernel of the horizontal slope, and the discrete Laplacian
_SLOPE = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=np.float32) / 8
_LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=np.float32)
_EDGE = 0.05  # slope from grey level to grey level, of 0 to 1, that is an edge
_BINS = 4  # of each color


def picture_statistics(images: Sequence[Image.Image]) -> dict[str, list[float]]:
    """
    What is measured of each picture, from 0 to 1 or a little above.

    Args:
        images (`Sequence[PIL.Image.Image]`): pictures, of any sizes.

    Returns:
        `dict[str, list[float]]`:
            `saturation` (of HSV), `contrast` (standard deviation of the grey levels), `edge_density` (share of pixels
            with a slope) and `sharpness` (standard deviation of the Laplacian).
    """
    found = [_of_picture(as_floats(image) / 255) for image in images]
    return {name: [of_one[name] for of_one in found] for name in STATISTICS}


def color_histogram(images: Sequence[Image.Image]) -> np.ndarray:
    """The pixels in each of 4 × 4 × 4 parts of the colors, as shares of a picture: `[64]`, which adds up to their number."""
    counts = np.zeros(_BINS**3)
    for image in images:
        parts = np.minimum(as_floats(image) * _BINS / 256, _BINS - 1).astype(int).reshape(-1, 3)
        of_one = np.bincount(parts @ (_BINS**2, _BINS, 1), minlength=_BINS**3)
        counts += of_one / of_one.sum()
    return counts


def histogram_distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Share of the color of one that would have to be painted over to get the other, 0 to 1."""
    return float(np.abs(np.asarray(first) / np.sum(first) - np.asarray(second) / np.sum(second)).sum() / 2)


def _of_picture(rgb: np.ndarray) -> dict[str, float]:
    """`rgb` is `[H, W, 3]`, from 0 to 1."""
    brightest, darkest = rgb.max(-1), rgb.min(-1)
    grey = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    slope = np.hypot(_filtered(grey, _SLOPE), _filtered(grey, _SLOPE.T))
    return {
        "saturation": float(
            np.divide(brightest - darkest, brightest, where=brightest > 0, out=np.zeros_like(grey)).mean()
        ),
        "contrast": float(grey.std()),
        "edge_density": float((slope > _EDGE).mean()),
        "sharpness": float(_filtered(grey, _LAPLACIAN).std()),
    }


def _filtered(grey: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """`grey` under a 3 × 3 kernel, without its border."""
    return correlate(grey, kernel)[1:-1, 1:-1]
