"""One thing to look for in a picture, and how it stands as a line of text."""

import math
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator


# What stands behind a criterion that is not as plain as most, in any order, and one part of it.
_NOTES = re.compile(r"(?P<text>.*\S)\s*[(（](?P<notes>[^()（）]*)[)）]")
_NOTE = re.compile(
    r"(?P<not>not\s+)?(?P<essential>essential|必要)|(?:weight|权重|權重)\s*[:：=]?\s*(?P<weight>[0-9.e+-]+)"
    r"|only\s+if\s+(?P<parent>[0-9]{1,4})(?:\s+is\s+met)?",
    re.IGNORECASE,
)
# Brackets at either end of a line that speak of weights: notes, whatever else they say.
_WORDS = (
    r"(?:(?<![^\W_])(?:weight(?:s|ed|ing)?|essential)(?![^\W\d_])|权重|權重|加权|加權|必要"
    r"|(?<![^\W_])only\s+if\s+[0-9]"
    r"|(?<![^\W_])wt?\s*(?:[:：=＝]\s*\.?\d|\.?\d[\d.]*\s*(?=[^\w\s.])))"
)
_INSIDE = r"[^()（）\[\]【】{}｛｝]*"
_ALIKE = rf"[(（\[【{{｛]{_INSIDE}{_WORDS}{_INSIDE}[)）\]】}}｝]"
_ALIKE = re.compile(rf"{_ALIKE}.*|.*{_ALIKE}\W*", re.IGNORECASE)


class Criterion(BaseModel):
    """
    One thing to look for in a picture.

    Args:
        text (`str`):
            What is asked, as one statement that an image meets or does not.
        theme (`str`, *optional*, defaults to `""`):
            Heading that criteria are grouped under.
        weight (`float`, *optional*, defaults to `1.0`):
            How much the criterion counts among the others; greater than 0.
        essential (`bool`, *optional*, defaults to `False`):
            Whether the criterion decides before any that is not essential.
        parent (`int`, *optional*):
            Number, from 1 on, of the criterion that this one depends on, which stands before it in the rubric. Where a
            picture fails the parent, this one is void for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(min_length=1)
    theme: str = ""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    essential: bool = False
    parent: int | None = Field(default=None, ge=1)

    @field_validator("weight", mode="before")
    @classmethod
    def _number(cls, weight: Any) -> Any:
        if isinstance(weight, bool):  # pydantic would take true for 1
            raise ValueError("a weight is a number above 0; `essential` is what is true or false")
        return weight

    @field_validator("text")
    @classmethod
    def _not_blank(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("a criterion needs a text")
        return text

    @field_validator("text", "theme")
    @classmethod
    def _one_line(cls, text: str) -> str:
        return " ".join(text.split())  # the judge reads one line for each

    def notes(self) -> list[str]:
        """What the judge is told of the criterion beside its text."""
        notes = ["essential"] if self.essential else []
        notes += [f"weight {self.weight:.12g}"] if self.weight != 1.0 else []
        return notes + self._of_parent()

    def _of_parent(self) -> list[str]:
        return [] if self.parent is None else [f"only if {self.parent} is met"]


def reads_like_notes(text: str) -> bool:
    """Whether brackets at an end of a text speak of a weight."""
    return _ALIKE.fullmatch(text) is not None


def criterion_line(criterion: Criterion) -> str:
    """The line of text that a criterion is in Markdown and in the text form, its notes in brackets behind it."""
    notes = criterion.notes()
    if _ALIKE.fullmatch(
        criterion.text
    ):  # text that reads like notes is told from them by notes that leave nothing open
        notes = ["essential" if criterion.essential else "not essential", f"weight {criterion.weight:.12g}"]
        notes += criterion._of_parent()
    return f"{criterion.text} ({', '.join(notes)})" if notes else criterion.text


def criterion_of_line(line: str, theme: str) -> Criterion:
    """
    The criterion in such a line, which a person may have edited.

    Raises:
        `ValueError`: when what stands in brackets could be meant as its weight and cannot be read as that.
    """
    noted = _NOTES.fullmatch(line)
    found = _notes(noted["notes"]) if noted else None
    text = line if found is None else noted["text"]
    # notes that say both things end a text that may look like anything
    if reads_like_notes(text) and (found is None or len(found) < 2):
        raise ValueError(
            f"{line[:80]!r} has brackets that could be its weight and are not: what is meant stands at its end, as "
            "`(weight 2)`, `(essential)` or `(essential, weight 2, only if 1 is met)`, each once and a weight above 0. If the brackets are "
            "part of the text, put `(not essential, weight 1)` behind them."
        )
    return Criterion(text=text, theme=theme, **(found or {}))


def _notes(text: str) -> dict[str, float | bool | int] | None:
    """The weight, whether it is essential and its parent, as far as notes say; `None` when they are none."""
    found: dict[str, float | bool | int] = {}
    for part in re.split("[,，、]", text):
        note = _NOTE.fullmatch(part.strip())
        if note is None:
            return None
        name = next(name for name in ("essential", "weight", "parent") if note[name] is not None)
        if name in found:
            return None
        try:
            value = not note["not"] if name == "essential" else (float if name == "weight" else int)(note[name])
        except ValueError:
            return None
        if (name == "weight" and not 0 < value < math.inf) or (name == "parent" and value < 1):
            return None
        found[name] = value
    return found
