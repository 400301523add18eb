"""One thing to look for in a picture, and how it stands as a line of text."""

import re

from pydantic import BaseModel, ConfigDict, Field, field_validator


# What stands behind a criterion that is not as plain as most.
_NOTES = re.compile(r"(?P<text>.*\S) \((?P<notes>(?:essential|weight [0-9.e+-]+)(?:, weight [0-9.e+-]+)?)\)")


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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(min_length=1)
    theme: str = ""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    essential: bool = False

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
        return notes + ([f"weight {self.weight:.12g}"] if self.weight != 1.0 else [])


def criterion_line(criterion: Criterion) -> str:
    """The line of text that a criterion is in Markdown and in the text form, its notes in brackets behind it."""
    notes = criterion.notes()
    if not notes and _NOTES.fullmatch(criterion.text):  # text that ends like notes is told from them by real ones
        notes = ["weight 1"]
    return f"{criterion.text} ({', '.join(notes)})" if notes else criterion.text


def criterion_of_line(line: str, theme: str) -> Criterion:
    """The criterion in such a line, which a person may have edited."""
    noted = _NOTES.fullmatch(line)
    if noted is None:
        return Criterion(text=line, theme=theme)
    weight = re.search(r"weight (\S+)", noted["notes"])
    try:
        return Criterion(
            text=noted["text"],
            theme=theme,
            weight=float(weight[1]) if weight else 1.0,
            essential=noted["notes"].startswith("essential"),
        )
    except ValueError:  # not a number, or none that a weight can be: then it is part of the text
        return Criterion(text=line, theme=theme)
