"""What the embedded judge can be asked about: pictures drawn for a caption, or edited after an instruction."""

import re
from dataclasses import dataclass
from typing import ClassVar

from .edits import EDIT_CRITERIA, Edit, check_edit
from .rubric_writer import subject_of
from .scenes import CRITERIA, Caption, SceneObject, check


@dataclass(frozen=True)
class CaptionTask:
    """Pictures drawn for a caption."""

    caption: Caption
    truths: ClassVar[tuple[str, ...]] = CRITERIA

    def subject_of(self, criterion: str) -> str | None:
        """What a criterion is about; `None` for one that is not understood."""
        return subject_of(criterion)

    def met(self, seen: list[list[SceneObject]]) -> list[dict[str, bool]]:
        """Which criteria each picture meets."""
        return [check(self.caption, objects) for objects in seen]

    def criteria(self) -> list[str]:
        """What to look at in this task."""
        c = self.caption
        return [
            f"There is something {c.color1} and something {c.color2}.",
            f"The {c.color1} object is a {c.shape1} and the {c.color2} object is a {c.shape2}.",
            f"The {c.color1} object is {c.relation} the {c.color2} object.",
            "There are exactly two objects and nothing stray.",
        ]


_KEPT = r"(?=.*\b(kept|keeps?|stays?|same|unchanged|untouched|preserv\w*|remains?)\b)"
# The first that matches tells what a criterion is about. What is said to stay is told from what is to change; one that
# says that things stay and names neither color, shape nor position means all three.
_EDIT_SUBJECTS = (
    ("count", re.compile(r"count|number of|nothing else|no other|stray|extra|missing", re.IGNORECASE)),
    ("preserved_color", re.compile(rf"{_KEPT}.*colou?r", re.IGNORECASE)),
    ("preserved_shape", re.compile(rf"{_KEPT}.*shape", re.IGNORECASE)),
    ("preserved_position", re.compile(rf"{_KEPT}.*(position|place|where|corner)", re.IGNORECASE)),
    ("preserved", re.compile(_KEPT, re.IGNORECASE)),
    ("edit", re.compile(r"instruct|edit|asked|requested|carried out|done", re.IGNORECASE)),
)


@dataclass(frozen=True)
class EditTask:
    """Pictures edited after an instruction; the first that is shown is the one it was applied to."""

    edit: Edit
    truths: ClassVar[tuple[str, ...]] = EDIT_CRITERIA

    def subject_of(self, criterion: str) -> str | None:
        """What a criterion is about; `None` for one that is not understood."""
        return next((name for name, pattern in _EDIT_SUBJECTS if pattern.search(criterion)), None)

    def met(self, seen: list[list[SceneObject]]) -> list[dict[str, bool]]:
        """Which criteria each picture but the first meets."""
        source, *candidates = seen
        checks = [check_edit(self.edit, source, objects) for objects in candidates]
        preserved = [name for name in EDIT_CRITERIA if name.startswith("preserved")]
        return [{**met, "preserved": all(met[name] for name in preserved)} for met in checks]

    def criteria(self) -> list[str]:
        """What to look at in this task."""
        return [
            f"It was done as instructed: {self.edit}.",
            *(f"Each {what} that was not to change is kept." for what in ("color", "shape", "position")),
            "The number of objects is right.",
        ]


def parse_task(text: str) -> CaptionTask | EditTask:
    """
    The first caption in `text`, or the first instruction where there is none.

    Raises:
        `ValueError`: when `text` holds neither.
    """
    try:
        return CaptionTask(Caption.parse(text))
    except ValueError as no_caption:
        try:
            return EditTask(Edit.parse(text))
        except ValueError:
            raise no_caption from None
