"""The world: what is drawn is read back, and the truth is told apart from each way of being wrong."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageDraw

from arr_trl.tiny_scenes import Caption, captions, check, read, render, success
from arr_trl.tiny_scenes.scenes import COLORS, GROUND, OPPOSITE, SHAPES, all_captions


def test_what_is_drawn_is_read_back():
    rng = np.random.default_rng(0)
    wrong = sum(not all(check(c, read(render(c, rng))).values()) for c in all_captions())
    assert wrong / len(all_captions()) < 0.005  # a circle of a few pixels can look like a square


def test_splits_are_disjoint_and_complete():
    train, test = captions("train"), captions("test")
    assert (len(train), len(test)) == (480, 240)
    assert {*train, *test} == {str(c) for c in all_captions()}
    assert captions("test") == test
    with pytest.raises(ValueError, match="'train' and 'test', not 'dev'"):
        captions("dev")


@pytest.mark.parametrize(("part", "criterion"), [
    ("color1", "colors"), ("color2", "colors"), ("shape1", "shapes"), ("shape2", "shapes"), ("relation", "relation"),
])  # fmt: skip
def test_each_wrong_part_fails_its_criterion(part, criterion):
    asked = Caption("red", "circle", "left of", "blue", "square")
    other = {"color1": "green", "color2": "yellow", "shape1": "triangle", "shape2": "circle", "relation": "above"}
    drawn = dataclasses.replace(asked, **{part: other[part]})
    met = check(asked, read(render(drawn, np.random.default_rng(0))))
    assert not met[criterion]
    assert met["count"]


@pytest.mark.parametrize("relation", OPPOSITE)
def test_an_opposite_relation_fails(relation):
    asked = Caption("red", "circle", relation, "blue", "square")
    drawn = dataclasses.replace(asked, relation=OPPOSITE[relation])
    met = check(asked, read(render(drawn, np.random.default_rng(0))))
    assert met == {"colors": True, "shapes": True, "relation": False, "count": True}


def test_a_third_object_is_counted():
    asked = Caption("red", "circle", "left of", "blue", "square")
    image = render(asked, np.random.default_rng(0))
    ImageDraw.Draw(image).rectangle((13, 1, 17, 5), fill=COLORS["green"])
    assert check(asked, read(image)) == {"colors": True, "shapes": True, "relation": True, "count": False}


def test_an_empty_picture_meets_nothing():
    empty = Image.new("RGB", (32, 32), GROUND)
    assert read(empty) == []
    assert not any(check(Caption("red", "circle", "above", "blue", "square"), []).values())


def test_larger_and_grey_pictures_are_read():
    asked = Caption("red", "circle", "above", "blue", "square")
    image = render(asked, np.random.default_rng(1))
    assert all(check(asked, read(image.resize((128, 128), Image.Resampling.NEAREST).convert("RGBA"))).values())
    assert read(image.convert("L")) == []


def test_caption_is_found_in_text_and_nonsense_is_refused():
    text = "Caption: A red circle left of a blue square."
    assert str(Caption.parse(text)) == "a red circle left of a blue square"
    with pytest.raises(ValueError, match="is not a TinyScenes caption; write one like"):
        Caption.parse("a cat on a mat")


def test_success_takes_what_a_reward_function_gets():
    text = captions("test")[0]
    image = render(Caption.parse(text), np.random.default_rng(0))
    assert success(prompts=[text], completions=[image], num_generations=2) == [
        {"colors": True, "shapes": True, "relation": True, "count": True}
    ]


def test_shapes_and_colors_are_told_apart_at_every_place():
    rng = np.random.default_rng(3)
    for color in COLORS:
        for shape in SHAPES:
            other = next(c for c in COLORS if c != color)
            seen = {(o.color, o.shape) for o in read(render(Caption(color, shape, "above", other, "square"), rng))}
            assert (color, shape) in seen
