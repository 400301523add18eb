"""The reader with a gradient sees what the reader sees, and its gradient leads there."""

import numpy as np
import pytest
import torch

from arr_trl.rewards.pixels import as_pictures, as_pixels
from arr_trl.tiny_scenes import Caption, captions, read, render, soft_criteria, soft_success, success


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


def test_gradient_leads_from_a_picture_of_one_caption_to_the_colors_of_another():
    image = render(Caption.parse("a red circle left of a blue square"), np.random.default_rng(1))
    caption, pixels = "a red circle left of a purple square", as_pixels([image], "cpu").requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=0.02)
    before = success([caption], [image])[0]
    for _ in range(40):
        optimizer.zero_grad()
        (-soft_success([caption], pixels)).sum().backward()
        optimizer.step()
    (after,) = as_pictures(pixels.detach().clamp(0, 1))
    assert not before["colors"]
    assert "purple" in {found.color for found in read(after)}


def test_larger_pictures_are_read_as_small_ones(pixels):
    large = torch.nn.functional.interpolate(pixels[:4], scale_factor=2, mode="nearest")
    torch.testing.assert_close(soft_criteria(CAPTIONS[:4], large), soft_criteria(CAPTIONS[:4], pixels[:4]))
