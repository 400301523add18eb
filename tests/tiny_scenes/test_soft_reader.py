"""The reader with a gradient sees what the reader sees."""

import numpy as np
import pytest
import torch

from arr_trl.rewards.pixels import as_pixels
from arr_trl.tiny_scenes import Caption, captions, render, soft_criteria, soft_success


CAPTIONS = captions("test")[:40]


@pytest.fixture(scope="module")
def pixels():
    random = np.random.default_rng(0)
    return as_pixels([render(Caption.parse(caption), random) for caption in CAPTIONS], torch.device("cpu"))


def test_pictures_of_their_captions_are_far_above_those_of_others(pixels):
    own = soft_success(CAPTIONS, pixels)
    assert own.min() > 0.85
    for shift in (1, 7):
        other = soft_success(CAPTIONS[shift:] + CAPTIONS[:shift], pixels)
        assert (own > other + 0.1).all()


@pytest.mark.parametrize(
    ("wrong", "criterion"),
    [
        ("a red circle left of a green square", 0),
        ("a red circle left of a blue triangle", 1),
        ("a red circle right of a blue square", 2),
    ],
)
def test_what_is_wrong_is_the_criterion_that_falls(wrong, criterion):
    image = render(Caption.parse("a red circle left of a blue square"), np.random.default_rng(1))
    right, found = soft_criteria(["a red circle left of a blue square", wrong], as_pixels([image] * 2, "cpu"))
    fell = right - found
    assert fell[criterion] > 0.3
    assert fell.argmax() == criterion or criterion == 0  # with another color its shape and place are gone too


def test_stray_color_is_counted(pixels):
    stray = pixels.clone()
    stray[:, :, :6, :6] = torch.tensor([0.63, 0.16, 0.78])[:, None, None]
    clean = ["purple" not in caption for caption in CAPTIONS]
    fell = (soft_criteria(CAPTIONS, pixels) - soft_criteria(CAPTIONS, stray))[clean]
    assert (fell[:, 3] > 0.3).all()


def test_gradient_is_that_of_the_number(pixels):
    blurred = torch.nn.functional.avg_pool2d(pixels[:1].double(), 3, stride=1, padding=1, count_include_pad=False)
    assert torch.autograd.gradcheck(lambda p: soft_success(CAPTIONS[:1], p), blurred.requires_grad_(), fast_mode=True)


def test_larger_pictures_are_read_as_small_ones(pixels):
    large = torch.nn.functional.interpolate(pixels[:4], scale_factor=2, mode="nearest")
    torch.testing.assert_close(soft_criteria(CAPTIONS[:4], large), soft_criteria(CAPTIONS[:4], pixels[:4]))
