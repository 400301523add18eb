"""
How the embedded chat model of TinyScenes criticises a picture and says how to mend it: from what it reads in the pixels.
It asks for one change at a time, since that is what the editor of TinyScenes was trained for.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .edits import CORNERS, Edit, check_edit
from .scenes import Caption, SceneObject, check, read


# The lists that a critique is shown in to whoever writes instructions.
_FAULT = re.compile(r"^\d+\. (.*) \(where: .*; kind: \w+; severity: \d\)$", re.MULTILINE)
_ASKED = re.compile(r"^(?:Caption: |Instruction: |提示词：|编辑指令：)(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class _Found:
    """A fault, and what an editor would have to be told; `None` where one change does not mend it."""

    what: str
    where: str
    kind: str
    severity: int
    instruction: str | None


def critique(question: str, images: list[Image.Image]) -> dict[str, Any]:
    """
    The faults of the last picture that is shown.

    Raises:
        `ValueError`: when the question is about no caption and no instruction of TinyScenes.
    """
    faults = _faults(question, images)
    return {"faults": [{name: getattr(f, name) for name in ("what", "where", "kind", "severity")} for f in faults]}


def instructions(question: str, images: list[Image.Image]) -> dict[str, Any]:
    """
    How to mend the first of the listed faults that one change mends.

    Raises:
        `ValueError`: when the question is about no caption and no instruction of TinyScenes.
    """
    known = {found.what: found.instruction for found in _faults(question, images)}
    for number, what in enumerate(_FAULT.findall(question), start=1):
        if known.get(what) is not None:
            keeps = "everything else"
            edit = {"instruction": known[what], "fault": number, "keeps": keeps, "confidence": 0.9}
            return {"edits": [edit]}
    return {"edits": []}


def _faults(question: str, images: list[Image.Image]) -> list[_Found]:
    asked = _ASKED.findall(question)[-1]
    seen = [read(image) for image in images]
    try:
        caption = Caption.parse(asked)
    except ValueError:
        edit = Edit.parse(asked)
        return _of_edit(edit, seen[0], seen[-1])
    return _of_caption(caption, seen[-1])


def _of_edit(edit: Edit, source: list[SceneObject], candidate: list[SceneObject]) -> list[_Found]:
    """An edit that went wrong is asked for again: what was to be done needs no other words."""
    said = {
        "edit": (f"It was not done: {edit}.", "wrong"),
        "preserved_color": ("A color was not kept.", "wrong"),
        "preserved_shape": ("A shape was not kept.", "wrong"),
        "preserved_position": ("Something was moved that was to stay.", "relation"),
        "count": ("The number of objects is not what it should be.", "count"),
    }
    unmet = [name for name, met in check_edit(edit, source, candidate).items() if not met]
    return [_Found(said[name][0], "", said[name][1], 3, str(edit)) for name in unmet]


def _of_caption(caption: Caption, objects: list[SceneObject]) -> list[_Found]:
    by_color = {o.color: o for o in reversed(objects)}  # the largest of a color wins
    wanted = [(caption.color1, caption.shape1), (caption.color2, caption.shape2)]
    there = {by_color[color] for color, _ in wanted if color in by_color}
    others = [o for o in objects if o not in there]
    found = []
    for color, shape in wanted:
        if color in by_color:
            continue
        # the object that was meant is most likely the one of its shape, else whatever else is there
        meant = next((o for o in others if o.shape == shape), others[0] if others else None)
        if meant is None or meant.color in (caption.color1, caption.color2):
            found.append(_Found(f"The {color} {shape} is missing.", "", "missing", 3, None))
            continue
        others.remove(meant)
        found.append(
            _Found(f"There is nothing {color}, but a {meant.color} {meant.shape}.", _place(meant), "wrong", 3,
                   f"make the {meant.color} {meant.shape} {color}")
        )  # fmt: skip
    for color, shape in wanted:
        if color in by_color and by_color[color].shape != shape:
            o = by_color[color]
            found.append(
                _Found(f"The {color} object is a {o.shape} and no {shape}.", _place(o), "wrong", 3,
                       f"turn the {color} {o.shape} into a {shape}")
            )  # fmt: skip
    if len(there) == 2 and not check(caption, objects)["relation"]:
        found.append(_relation(caption, by_color))
    for o in others:
        remove = None if o.color in (caption.color1, caption.color2) else f"remove the {o.color} {o.shape}"
        found.append(_Found(f"A stray {o.color} {o.shape} is there.", _place(o), "extra", 2, remove))
    return found


def _relation(caption: Caption, by_color: dict[str, SceneObject]) -> _Found:
    """One of the two may stand right after a move to an empty corner."""
    first, second = by_color[caption.color1], by_color[caption.color2]
    what = f"The {caption.color1} object is not {caption.relation} the {caption.color2} object."
    for moved in (first, second):
        other = second if moved is first else first
        for corner, (x, y) in CORNERS.items():
            after = SceneObject(moved.color, moved.shape, x, y, moved.area)
            free = math.hypot(other.x - x, other.y - y) > 12
            if free and check(caption, [after, other])["relation"]:
                return _Found(
                    what, _place(moved), "relation", 3, f"move the {moved.color} {moved.shape} to the {corner}"
                )
    return _Found(what, "", "relation", 3, None)


def _place(o: SceneObject) -> str:
    return "the " + min(CORNERS, key=lambda name: math.hypot(CORNERS[name][0] - o.x, CORNERS[name][1] - o.y))
