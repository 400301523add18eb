"""
The world of TinyScenes: 32x32 pictures of two coloured shapes, the captions that describe them, and a reader that
recovers colour, shape, count and relation from the pixels. Drawing and reading are deterministic and need no model.
"""

import hashlib
import itertools
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw


SIZE = 32
GROUND = (243, 242, 238)
COLORS = {
    "red": (220, 40, 40),
    "yellow": (240, 200, 20),
    "green": (40, 170, 70),
    "blue": (40, 80, 220),
    "purple": (160, 40, 200),
}
SHAPES = ("circle", "square", "triangle")
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
CRITERIA = ("colors", "shapes", "relation", "count")

_CAPTION = re.compile(
    rf"an? (?P<color1>{'|'.join(COLORS)}) (?P<shape1>{'|'.join(SHAPES)}) (?P<relation>{'|'.join(RELATIONS)}) "
    rf"an? (?P<color2>{'|'.join(COLORS)}) (?P<shape2>{'|'.join(SHAPES)})"
)
# Hues in degrees: blending a color with the light ground moves saturation, not hue, so soft edges read correctly.
_HUES = np.array([0.0, 49.0, 134.0, 227.0, 285.0])
_MIN_CHROMA = 70  # of 255; below it a pixel is ground
_MIN_AREA = 10  # pixels; smaller specks are not objects


@dataclass(frozen=True)
class Caption:
    """What a caption asks for: `"a {color1} {shape1} {relation} a {color2} {shape2}"`."""

    color1: str
    shape1: str
    relation: str
    color2: str
    shape2: str

    def __str__(self) -> str:
        return f"a {self.color1} {self.shape1} {self.relation} a {self.color2} {self.shape2}"

    @classmethod
    def parse(cls, text: str) -> "Caption":
        """
        Read the first caption found in `text`.

        Raises:
            `ValueError`: when `text` holds no caption of TinyScenes.
        """
        match = _CAPTION.search(text.lower())
        if match is None:
            raise ValueError(
                f"{text!r} is not a TinyScenes caption; write one like 'a red circle left of a blue square' "
                f"with colors {', '.join(COLORS)}, shapes {', '.join(SHAPES)} and relations {', '.join(RELATIONS)}."
            )
        return cls(**match.groupdict())


@dataclass(frozen=True)
class SceneObject:
    """One object the reader saw; `x` and `y` are the centre in pixels, `area` is in pixels."""

    color: str
    shape: str
    x: float
    y: float
    area: int


def all_captions() -> list[Caption]:
    """Every caption of the grammar, in a fixed order: 720 of them (the two colors always differ)."""
    return [
        Caption(c1, s1, relation, c2, s2)
        for c1, s1, relation, c2, s2 in itertools.product(COLORS, SHAPES, RELATIONS, COLORS, SHAPES)
        if c1 != c2
    ]


def captions(split: str) -> list[str]:
    """
    The captions of one split, in a fixed shuffled order.

    Args:
        split (`str`): `"train"` (480 captions) or `"test"` (240, never shown in pre-training or RL).
    """
    if split not in ("train", "test"):
        raise ValueError(f"TinyScenes has the splits 'train' and 'test', not {split!r}.")
    ordered = sorted(map(str, all_captions()), key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    return ordered[:240] if split == "test" else ordered[240:]


def render(caption: Caption, rng: np.random.Generator) -> Image.Image:
    """Draw `caption` with small random offsets and sizes, anti-aliased, as a 32x32 RGB picture."""
    near, far = rng.uniform(8, 10), rng.uniform(22, 24)
    across1, across2 = rng.uniform(13, 19, size=2)
    first, second = (near, far) if caption.relation in ("left of", "above") else (far, near)
    if caption.relation in ("left of", "right of"):
        centres = ((first, across1), (second, across2))
    else:
        centres = ((across1, first), (across2, second))
    drawn = ((caption.color1, caption.shape1), (caption.color2, caption.shape2))
    return paint([(*parts, *centre, rng.uniform(5.2, 6.2)) for parts, centre in zip(drawn, centres, strict=True)])


def paint(shapes: list[tuple[str, str, float, float, float]]) -> Image.Image:
    """A 32x32 RGB picture of (color, shape, x, y, radius in pixels), anti-aliased, later ones in front."""
    scale = 4
    image = Image.new("RGB", (SIZE * scale, SIZE * scale), GROUND)
    draw = ImageDraw.Draw(image)
    for color, shape, x, y, r in shapes:
        box = {
            "circle": (x - r, y - r, x + r, y + r),
            "square": (x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r),
            "triangle": (x, y - 1.05 * r, x + 1.15 * r, y + 0.95 * r, x - 1.15 * r, y + 0.95 * r),
        }[shape]
        box = [scale * value for value in box]
        if shape == "circle":
            draw.ellipse(box, fill=COLORS[color])
        elif shape == "square":
            draw.rectangle(box, fill=COLORS[color])
        else:
            draw.polygon(list(zip(box[::2], box[1::2], strict=True)), fill=COLORS[color])
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def read(image: Image.Image) -> list[SceneObject]:
    """Recover the objects of a picture from its pixels, largest first."""
    image = image.convert("RGB")
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.BOX)
    objects = []
    for color, pixels in _components(_color_index(np.asarray(image, dtype=np.float32))):
        if len(pixels) >= _MIN_AREA:
            ys, xs = np.divmod(np.array(pixels), SIZE)
            x, y = float(xs.mean()), float(ys.mean())
            objects.append(SceneObject(color, _shape_of(xs - x, ys - y), x, y, len(pixels)))
    return sorted(objects, key=lambda o: -o.area)


def check(caption: Caption, objects: list[SceneObject]) -> dict[str, bool]:
    """
    The truth of TinyScenes: which criteria a picture meets, from what [`read`] saw in it.

    Returns:
        `dict[str, bool]`: `colors` (both named colors are there), `shapes` (the object of each named color has its
        named shape), `relation` (the two stand as asked), `count` (two objects and nothing stray).
    """
    by_color = {o.color: o for o in reversed(objects)}  # the largest of a color wins
    first, second = by_color.get(caption.color1), by_color.get(caption.color2)
    both = first is not None and second is not None
    shapes = both and first.shape == caption.shape1 and second.shape == caption.shape2
    relation = False
    if both:
        dx, dy = second.x - first.x, second.y - first.y
        relation = {
            "left of": dx > abs(dy),
            "right of": -dx > abs(dy),
            "above": dy > abs(dx),
            "below": -dy > abs(dx),
        }[caption.relation]
    return {"colors": both, "shapes": bool(shapes), "relation": bool(relation), "count": len(objects) == 2}


def _color_index(pixels_HWC: np.ndarray) -> np.ndarray:
    """Index into `COLORS` of each pixel, -1 for ground: `[H, W]`."""
    high, low = pixels_HWC.max(-1), pixels_HWC.min(-1)
    chroma = np.maximum(high - low, 1e-6)
    r, g, b = np.moveaxis(pixels_HWC, -1, 0)
    hue = np.where(high == r, ((g - b) / chroma) % 6, np.where(high == g, (b - r) / chroma + 2, (r - g) / chroma + 4))
    distance = np.abs(60 * hue[..., None] - _HUES)
    distance = np.minimum(distance, 360 - distance)
    return np.where(high - low < _MIN_CHROMA, -1, distance.argmin(-1))


def _components(color_HW: np.ndarray) -> list[tuple[str, list[int]]]:
    """Connected regions of one color (4-neighbours), each with its flat pixel positions."""
    names = list(COLORS)
    waiting = {int(p): int(c) for p, c in enumerate(color_HW.ravel()) if c >= 0}
    regions = []
    while waiting:
        start, color = waiting.popitem()
        region, frontier = [start], [start]
        while frontier:
            p = frontier.pop()
            x = p % SIZE
            for q in (p - SIZE, p + SIZE, p - 1 if x else -1, p + 1 if x < SIZE - 1 else -1):
                if waiting.get(q) == color:
                    del waiting[q]
                    region.append(q)
                    frontier.append(q)
        regions.append((names[color], region))
    return regions


def _shape_of(dx: np.ndarray, dy: np.ndarray) -> str:
    """The shape that overlaps best with a region of the same centre and area; `dx`, `dy` are offsets from the centre."""
    area = len(dx)
    r_circle, r_square, r_triangle = np.sqrt(area / np.pi), np.sqrt(area) / 2, np.sqrt(area / 2.3)
    # the triangle's centroid stands two thirds down: y runs from -4/3 r to 2/3 r, and the width grows with it
    down = dy / r_triangle + 4 / 3
    inside = {
        "circle": dx**2 + dy**2 <= r_circle**2,
        "square": np.maximum(abs(dx), abs(dy)) <= r_square,
        "triangle": (abs(dx) / r_triangle <= 1.15 * down / 2) & (down <= 2),
    }
    return max(inside, key=lambda shape: inside[shape].sum())
