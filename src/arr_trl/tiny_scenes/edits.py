"""
Edits of TinyScenes: 32x32 pictures with two coloured shapes in two of the four corners, instructions that change one of
them, and the truth about an edited picture: whether the edit was made, and whether everything else stayed.
"""

import dataclasses
import hashlib
import itertools
import math
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .scenes import COLORS, SHAPES, SIZE, SceneObject, paint


CORNERS = {"top left": (8, 8), "top right": (24, 8), "bottom left": (8, 24), "bottom right": (24, 24)}
EDIT_KINDS = ("recolor", "remove", "move", "reshape")
EDIT_CRITERIA = ("edit", "preserved_color", "preserved_shape", "preserved_position", "count")
MAX_DRIFT = 3.5  # pixels that the centre of an object may move before its position counts as changed

_OBJECT = rf"the (?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)})"
_INSTRUCTIONS = {
    "recolor": re.compile(rf"make {_OBJECT} (?P<value>{'|'.join(COLORS)})"),
    "remove": re.compile(rf"remove {_OBJECT}(?P<value>)"),
    "move": re.compile(rf"move {_OBJECT} to the (?P<value>{'|'.join(CORNERS)})"),
    "reshape": re.compile(rf"turn {_OBJECT} into a (?P<value>{'|'.join(SHAPES)})"),
}


@dataclass(frozen=True)
class Edit:
    """
    What an instruction asks for: the object it names, and what becomes of it (`value` is a color, a corner, a shape, or
    empty for `"remove"`).
    """

    kind: str
    color: str
    shape: str
    value: str = ""

    def __str__(self) -> str:
        named = f"the {self.color} {self.shape}"
        return {
            "recolor": f"make {named} {self.value}",
            "remove": f"remove {named}",
            "move": f"move {named} to the {self.value}",
            "reshape": f"turn {named} into a {self.value}",
        }[self.kind]

    @classmethod
    def parse(cls, text: str) -> "Edit":
        """
        Read the first instruction found in `text`.

        Raises:
            `ValueError`: when `text` holds no instruction of TinyScenes.
        """
        found = [(match, kind) for kind, pattern in _INSTRUCTIONS.items() if (match := pattern.search(text.lower()))]
        if not found:
            raise ValueError(
                f"{text!r} is not a TinyScenes instruction; write one like 'make the red circle green', 'remove the "
                "red circle', 'move the red circle to the top left' or 'turn the red circle into a square'."
            )
        match, kind = min(found, key=lambda pair: pair[0].start())
        return cls(kind, **match.groupdict())


@dataclass(frozen=True)
class Placed:
    """An object to draw: centre and radius in pixels."""

    color: str
    shape: str
    corner: str
    x: float
    y: float
    radius: float


# (color, shape, corner) of both objects, the first in the earlier corner
Scene = tuple[tuple[str, str, str], tuple[str, str, str]]


def all_scenes() -> list[Scene]:
    """Every scene, in a fixed order: 1080 of them (the two colors always differ)."""
    return [
        ((c1, s1, corner1), (c2, s2, corner2))
        for corner1, corner2 in itertools.combinations(CORNERS, 2)
        for c1, s1, c2, s2 in itertools.product(COLORS, SHAPES, COLORS, SHAPES)
        if c1 != c2
    ]


def scenes(split: str) -> list[Scene]:
    """
    The scenes of one split, in a fixed shuffled order.

    Args:
        split (`str`): `"train"` (840 scenes) or `"test"` (240, never edited in pre-training or RL).
    """
    if split not in ("train", "test"):
        raise ValueError(f"TinyScenes has the splits 'train' and 'test', not {split!r}.")
    ordered = sorted(all_scenes(), key=lambda scene: hashlib.sha256(repr(scene).encode()).hexdigest())
    return ordered[:240] if split == "test" else ordered[240:]


def edits_of(scene: Scene, kind: str) -> list[Edit]:
    """Every edit of one kind that `scene` allows; colors stay distinct, and objects move to empty corners."""
    values = {
        "recolor": [color for color in COLORS if color not in (scene[0][0], scene[1][0])],
        "remove": [""],
        "move": [corner for corner in CORNERS if corner not in (scene[0][2], scene[1][2])],
    }
    return [
        Edit(kind, color, shape, value)
        for color, shape, _ in scene
        for value in (values[kind] if kind != "reshape" else [s for s in SHAPES if s != shape])
    ]


def all_instructions() -> list[str]:
    """Every instruction of the grammar, in a fixed order."""
    return sorted({str(edit) for scene in all_scenes() for kind in EDIT_KINDS for edit in edits_of(scene, kind)})


def edits(split: str) -> list[tuple[Edit, Image.Image]]:
    """One edit for each scene of a split, and the picture to edit: a quarter of them of each kind, in a fixed order."""
    made = []
    for i, scene in enumerate(scenes(split)):
        rng = np.random.default_rng(i)
        choices = edits_of(scene, EDIT_KINDS[i % len(EDIT_KINDS)])
        made.append((choices[rng.integers(len(choices))], draw(place(scene, rng))))
    return made


def place(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Small random offsets and sizes for the objects of `scene`."""
    return [Placed(*parts, *_jitter(parts[2], rng), rng.uniform(5.2, 6.0)) for parts in scene]


def apply(edit: Edit, objects: list[Placed], rng: np.random.Generator) -> list[Placed]:
    """The objects after `edit`; whatever it does not name stays as it is."""
    after = []
    for placed in objects:
        if placed.color != edit.color:
            after.append(placed)
        elif edit.kind == "recolor":
            after.append(dataclasses.replace(placed, color=edit.value))
        elif edit.kind == "reshape":
            after.append(dataclasses.replace(placed, shape=edit.value))
        elif edit.kind == "move":
            after.append(move_to(edit.value, placed, rng))
    return after


def move_to(corner: str, placed: Placed, rng: np.random.Generator) -> Placed:
    """The same object in another corner."""
    x, y = _jitter(corner, rng)
    return dataclasses.replace(placed, corner=corner, x=x, y=y)


def draw(objects: list[Placed]) -> Image.Image:
    """A 32x32 RGB picture of `objects`."""
    return paint([(o.color, o.shape, o.x, o.y, o.radius) for o in objects])


def check_edit(edit: Edit, source: list[SceneObject], candidate: list[SceneObject]) -> dict[str, bool]:
    """
    The truth about an edit, from what [`read`] saw in the source and in the edited picture.

    Returns:
        `dict[str, bool]`: `edit` (what was asked for is done), `preserved_color`, `preserved_shape` and
        `preserved_position` (everything that was not to change kept it, the other object and the edited one alike),
        `count` (the objects that should be there, and nothing stray).
    """
    after = {o.color: o for o in reversed(candidate)}  # the largest of a color wins
    before = {o.color: o for o in reversed(source)}
    edited = after.get(edit.value) or after.get(edit.color) if edit.kind == "recolor" else after.get(edit.color)
    done = {
        "recolor": edit.value in after and edit.color not in after,
        "remove": edit.color not in after,
        "move": edited is not None and _corner_of(edited) == edit.value,
        "reshape": edited is not None and edited.shape == edit.value,
    }[edit.kind]
    stayed = [(o, after.get(color)) for color, o in before.items() if color != edit.color]
    kept = {"recolor": ("shape", "position"), "move": ("color", "shape"), "reshape": ("color", "position")}
    named = before.get(edit.color)
    asked = kept.get(edit.kind, ()) if named is not None else ()

    def all_kept(name: str, same) -> bool:
        pairs = stayed + ([(named, edited)] if name in asked else [])
        return all(now is not None and same(was, now) for was, now in pairs)

    return {
        "edit": done,
        "preserved_color": all_kept("color", lambda was, now: True),  # found by its color
        "preserved_shape": all_kept("shape", lambda was, now: was.shape == now.shape),
        "preserved_position": all_kept(
            "position", lambda was, now: math.hypot(was.x - now.x, was.y - now.y) <= MAX_DRIFT
        ),
        "count": len(candidate) == len(source) - (edit.kind == "remove"),
    }


def _jitter(corner: str, rng: np.random.Generator) -> tuple[float, float]:
    x, y = CORNERS[corner]
    dx, dy = rng.uniform(-0.4, 0.8, size=2)  # towards the middle of the picture
    return x + (dx if x < SIZE / 2 else -dx), y + (dy if y < SIZE / 2 else -dy)


def _corner_of(seen: SceneObject) -> str:
    """The corner nearest to an object."""
    return min(CORNERS, key=lambda name: math.hypot(CORNERS[name][0] - seen.x, CORNERS[name][1] - seen.y))
