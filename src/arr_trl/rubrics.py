"""
A rubric is the reward, written down: criteria that a person can read and edit and that a judge is asked to apply.
"""

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator


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
        return text.strip()


class Rubric(BaseModel):
    """
    The criteria a judge applies to the candidates of one task.

    Args:
        name (`str`):
            Name of the rubric; it appears in logs and model cards.
        criteria (`tuple[Criterion, ...]`):
            At least one criterion. Their order is the order the judge reads them in.
        version (`str`, *optional*, defaults to `"1"`):
            Version of the wording.
        task (`str`, *optional*, defaults to `"text-to-image"`):
            `"text-to-image"` or `"image-editing"`.

    Example:
    ```python
    >>> rubric = Rubric(name="demo", criteria=[Criterion(text="Every object the prompt names is there.", essential=True)])
    >>> print(rubric.render())
    1. Every object the prompt names is there. (essential)
    ```
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    version: str = "1"
    task: Literal["text-to-image", "image-editing"] = "text-to-image"

    @classmethod
    def load(cls, path: str | Path) -> "Rubric":
        """
        Read a rubric from a JSON file.

        Raises:
            `FileNotFoundError`: when there is no such file.
            `ValueError`: when the file is not JSON or not a rubric; the message names the field.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no rubric file at {path}; check the path given as `rubric`.")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"The rubric {path} is not valid JSON: {error}.") from error
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            found = "; ".join(f"`{_location(e['loc'])}`: {e['msg']}" for e in error.errors())
            raise ValueError(
                f"{path} is not a rubric: {found}. A rubric is a JSON object with `name` and `criteria`, a list of at "
                'least one object such as {"text": "...", "theme": "...", "weight": 1.0, "essential": false}.'
            ) from None

    def save(self, path: str | Path) -> None:
        """Write the rubric as a JSON file that [`Rubric.load`] reads back unchanged."""
        Path(path).write_text(json.dumps(self.model_dump(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def render(self) -> str:
        """The criteria as the judge reads them: one numbered line each, under their themes in order of appearance."""
        lines, theme = [], ""
        for number, criterion in enumerate(self.criteria, start=1):
            if criterion.theme != theme:
                theme = criterion.theme
                lines.append(f"[{theme}]" if theme else "[Other]")
            notes = ["essential"] if criterion.essential else []
            if criterion.weight != 1.0:
                notes.append(f"weight {criterion.weight:g}")
            lines.append(f"{number}. {criterion.text}" + (f" ({', '.join(notes)})" if notes else ""))
        return "\n".join(lines)

    @property
    def content_hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of what the judge reads; name and version do not enter it."""
        content = json.dumps([self.task, [c.model_dump() for c in self.criteria]], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]


def _location(parts: tuple) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".") or "file"
