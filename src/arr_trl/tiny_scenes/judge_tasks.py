"""What the embedded judge can be asked about: pictures drawn for a caption, or edited after an instruction."""

import re
from dataclasses import dataclass
from typing import ClassVar

from .edits import EDIT_CRITERIA, Edit, check_edit
from .scenes import Caption, SceneObject, check


@dataclass(frozen=True)
class CaptionTask:
    """Pictures drawn for a caption."""

    caption: Caption
    sources: ClassVar[int] = 0  # pictures shown before the candidates
    # The first that matches tells what a criterion is about: one about a relation also names objects, and so on.
    subjects: ClassVar[dict[str, str]] = {
        "relation": r"relation|position|arrange|left of|right of|above|below",
        "shapes": r"shape|circle|square|triangle",
        "count": r"count|number of|exactly two|nothing else|no other|stray|extra",
        "colors": r"colou?r|red|yellow|green|blue|purple",
    }

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


@dataclass(frozen=True)
class EditTask:
    """Pictures edited after an instruction; the first that is shown is the one it was applied to."""

    edit: Edit
    sources: ClassVar[int] = 1
    # What is said to stay is told from what is to change; a criterion that names neither color, shape nor position but
    # says that things stay means all three.
    subjects: ClassVar[dict[str, str]] = {
        "count": r"count|number of|nothing else|no other|stray|extra|missing",
        "preserved_color": rf"{_KEPT}.*colou?r",
        "preserved_shape": rf"{_KEPT}.*shape",
        "preserved_position": rf"{_KEPT}.*(position|place|where|corner)",
        "preserved": rf"{_KEPT}",
        "edit": r"instruct|edit|asked|requested|carried out|done",
    }

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


def subject_of(task: CaptionTask | EditTask, criterion: str) -> str | None:
    """Which of the task's truths a criterion is about; `None` when it is about something else."""
    return next((name for name, words in task.subjects.items() if re.search(words, criterion, re.IGNORECASE)), None)
