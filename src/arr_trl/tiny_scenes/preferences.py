"""Preference pairs of TinyScenes: two pictures of a caption with faults, labelled by a rule that nobody is told."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from ..data.preferences import Preference
from .scenes import COLORS, CRITERIA, OPPOSITE, SHAPES, SIZE, Caption, captions, check, read, render


# What people care for, unless told otherwise: everything, alike.
ALL_ALIKE = dict.fromkeys(CRITERIA, 1.0)


def preferences(
    count: int,
    rule: Mapping[str, float] = ALL_ALIKE,
    wrong_labels: float = 0.0,
    fault_rate: float = 0.3,
    split: str = "train",
    seed: int = 0,
    in_turn: bool = False,
) -> list[Preference]:
    """
    Labelled pairs. Each picture has each fault (a wrong color, a wrong shape, the relation turned around, something
    stray) with the same probability; pairs that the rule finds level are drawn again.

    Args:
        count (`int`): number of pairs.
        rule (`Mapping[str, float]`, *optional*):
            What each criterion of [`check`] is worth to whoever labels; one that is not named is worth nothing.
        wrong_labels (`float`, *optional*, defaults to `0.0`): share of the labels that are turned around.
        fault_rate (`float`, *optional*, defaults to `0.3`): probability of each fault.
        split (`str`, *optional*, defaults to `"train"`): captions to draw from.
        seed (`int`, *optional*, defaults to `0`): seed of everything that is drawn.
        in_turn (`bool`, *optional*, defaults to `False`): take the captions one after the other in place of drawing them.

    Returns:
        `list[Preference]`: the winner stands first in about half of them; `category` is `"wrong label"` for those that
        were turned around.
    """
    rng = np.random.default_rng(seed)
    texts = captions(split)
    pairs = []
    while len(pairs) < count:
        text = texts[len(pairs) % len(texts)] if in_turn else texts[rng.integers(len(texts))]
        caption = Caption.parse(text)
        images = tuple(draw_with_faults(caption, fault_rate, rng)[0] for _ in range(2))
        met = [check(caption, read(image)) for image in images]
        first, second = (sum(rule.get(name, 0.0) for name in CRITERIA if m[name]) for m in met)
        if first == second:
            continue
        winner = int(second > first)
        wrong = rng.random() < wrong_labels
        pairs.append(
            Preference(
                text,
                images,
                1 - winner if wrong else winner,
                category="wrong label" if wrong else None,
                row=len(pairs),
            )
        )
    return pairs


def draw_with_faults(
    caption: Caption, fault_rate: float, rng: np.random.Generator
) -> tuple[Image.Image, Caption, str | None]:
    """
    Draw a caption with each fault at the same probability.

    Returns:
        `tuple[PIL.Image.Image, Caption, str | None]`: the picture, what was drawn in place of the caption, and the color of
            what is stray, if anything is.
    """
    color, shape, relation, stray = rng.random(4) < fault_rate
    color2, shape1, asked = caption.color2, caption.shape1, caption.relation
    if color:
        color2 = rng.choice([c for c in COLORS if c not in (caption.color1, caption.color2)])
    if shape:
        shape1 = rng.choice([s for s in SHAPES if s != caption.shape1])
    if relation:
        asked = OPPOSITE[asked]
    drawn = Caption(caption.color1, str(shape1), asked, str(color2), caption.shape2)
    image = render(drawn, rng)
    if not stray:
        return image, drawn, None
    free = [c for c in COLORS if c not in (caption.color1, caption.color2, drawn.color2)]
    side_by_side = asked in ("left of", "right of")
    across, edge = rng.uniform(8, SIZE - 8), rng.choice([2.5, SIZE - 2.5])
    x, y = (across, edge) if side_by_side else (edge, across)
    stray_color = str(rng.choice(free))
    ImageDraw.Draw(image).rectangle((x - 2, y - 2, x + 2, y + 2), fill=COLORS[stray_color])
    return image, drawn, stray_color
