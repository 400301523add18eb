"""Numbers of pictures that say what was done to them, by pictures it was done to."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from arr_trl.evaluation import picture_statistics as measured
from arr_trl.evaluation.picture_statistics import color_histogram, histogram_distance


def picture_statistics(images):
    found = measured.picture_statistics(images)
    assert all(len(values) == len(images) for values in found.values())
    return {name: sum(values) / len(values) for name, values in found.items()}


def scene(seed=0, size=48):
    """Soft color blobs."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(60, 200, (6, 6, 3), dtype=np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


CHANGES = {
    "saturation": lambda image: ImageEnhance.Color(image).enhance(2.0),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(2.0),
    "sharpness": lambda image: image.filter(ImageFilter.UnsharpMask(radius=2, percent=300, threshold=0)),
    "edge_density": lambda image: ImageEnhance.Contrast(image).enhance(2.0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_raised_is_higher(name):
    images = [scene(seed) for seed in range(4)]
    before, after = picture_statistics(images), picture_statistics([CHANGES[name](image) for image in images])
    assert after[name] > 1.1 * before[name]


@pytest.mark.parametrize(("change", "untouched"), [("saturation", "sharpness"), ("sharpness", "saturation")])
def test_and_the_others_much_less(change, untouched):
    images = [scene(seed) for seed in range(4)]
    before, after = picture_statistics(images), picture_statistics([CHANGES[change](image) for image in images])
    assert abs(after[untouched] / before[untouched] - 1) < abs(after[change] / before[change] - 1) / 2


def test_flat_pictures_have_none_of_it():
    for color, saturation in (("black", 0.0), ("white", 0.0), ("red", 1.0)):
        found = picture_statistics([Image.new("RGB", (16, 16), color)])
        flat = {"saturation": saturation, "contrast": 0.0, "edge_density": 0.0, "sharpness": 0.0}
        assert found == pytest.approx(flat, abs=1e-6)


def test_grey_pictures_and_sizes_of_their_own_are_taken():
    found = picture_statistics([Image.new("L", (300, 9), 128), Image.new("RGBA", (8, 8), "blue")])
    assert found["saturation"] == pytest.approx(0.5)


def test_distance_of_colors_is_the_share_that_would_be_painted_over():
    half = Image.new("RGB", (16, 16), "red")
    half.paste("blue", (0, 0, 16, 8))
    red, blue = (color_histogram([Image.new("RGB", (16, 16), color)]) for color in ("red", "blue"))
    assert red.sum() == 1
    assert histogram_distance(red, red) == 0
    assert histogram_distance(red, blue) == 1
    assert histogram_distance(red, color_histogram([half])) == pytest.approx(0.5)
    both = color_histogram([Image.new("RGB", (4, 4), "red"), Image.new("RGB", (64, 64), "blue")])
    assert histogram_distance(red, both) == pytest.approx(0.5)  # a picture counts as one, whatever its size
