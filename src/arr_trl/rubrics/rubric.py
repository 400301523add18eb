"""
A rubric is the reward, written down: criteria that a person can read and edit and that a judge is asked to apply.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..folders import replacing
from ..shipped import find, names
from ..text_files import read_json, read_text
from ..version import __version__
from .criterion import Criterion
from .markdown import write_markdown
from .provenance import Provenance
from .repository import Upload, download, upload


_ABOUT_PARENTS = (
    "A criterion marked (only if N is met) depends on criterion N: for an image that does not meet criterion N it is void "
    "and speaks neither for nor against it."
)


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
        provenance ([`Provenance`], *optional*):
            Where it comes from; unset for one written by hand.

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
    provenance: Provenance | None = None

    @field_validator("name", "version")
    @classmethod
    def _one_line(cls, text: str) -> str:
        return " ".join(text.split()) or text

    @model_validator(mode="after")
    def _parents_stand_before(self) -> "Rubric":
        for number, criterion in enumerate(self.criteria, start=1):
            if criterion.parent is not None and criterion.parent >= number:
                raise ValueError(
                    f"criterion {number} depends on criterion {criterion.parent}, which has to stand before it"
                )
        return self

    @classmethod
    def load(cls, path: str | Path) -> "Rubric":
        """
        Read a rubric from a JSON file, or one that ships with the package by its name, such as `"tiny_scenes"`.

        Raises:
            `FileNotFoundError`: when there is no such file.
            `ValueError`: when the file is not JSON, has a key twice, or is not a rubric; the message names the field.
        """
        given = Path(path)
        path = given if given.is_file() else find("rubrics", str(path))
        if path is None:
            raise FileNotFoundError(
                f"There is no rubric file at {given}; check the path given as `rubric`, or name one that ships with the "
                f"package: {', '.join(names('rubrics'))}."
            )
        text = read_text(path)
        try:
            data = read_json(text)
        except ValueError as error:
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
        """Write the rubric as a JSON file that [`Rubric.load`] reads back unchanged; never half of one."""
        with replacing(path) as written:
            written.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """The rubric as the JSON of its file."""
        return json.dumps(self.model_dump(exclude_none=True), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_hub(cls, repo_id: str, revision: str | None = None, token: str | None = None) -> "Rubric":
        """
        Read the `rubric.json` of a repository on the Hub.

        Args:
            repo_id (`str`): repository such as `"user/name"`.
            revision (`str`, *optional*): branch, tag or commit; `main` by default.
            token (`str`, *optional*): token; by default the one that is logged in.

        Raises:
            `FileNotFoundError`: when there is no such repository, revision or file.
            `ValueError`: when the file is not a rubric.
        """
        return cls.load(download(repo_id, revision, token))

    def push_to_hub(
        self, repo_id: str, private: bool | None = None, token: str | None = None, dry_run: bool = False
    ) -> Upload:
        """
        Put the rubric into a repository on the Hub as `rubric.json`, with a small card, in one commit. Of a card that is
        there the rubric is replaced, and what people wrote around it stays; the card of something else, such as adapters,
        stays as it is. Of a rubric that was edited since it was made no figures of the former text are sent.

        Args:
            repo_id (`str`): repository such as `"user/name"`; created when missing.
            private (`bool`, *optional*): visibility of a new repository; by default what the namespace prefers.
            token (`str`, *optional*): token with write permission; by default the one that is logged in.
            dry_run (`bool`, *optional*, defaults to `False`): only tell what would be sent.

        Raises:
            `ValueError`: when `repo_id` is no name the Hub accepts.
            [`RubricHubError`]: when the Hub refuses or cannot be reached.
        """

        def markdown_of(text: str) -> str:
            return write_markdown(**dict(Rubric.model_validate(read_json(text)).with_own_figures()))

        return upload(repo_id, self.with_own_figures().to_json(), markdown_of, private, token, dry_run)

    @property
    def edited(self) -> bool:
        """Whether a judge reads another text than the one that its provenance tells of."""
        return self.provenance is not None and self.provenance.content_hash not in (None, self.content_hash)

    def measured(self, found: dict[str, Any]) -> "Rubric":
        """
        This rubric with what was found of it on labelled pairs.

        Args:
            found (`dict`): figures, and the `content_hash` of the text that they are of.
        """
        provenance = self.provenance or Provenance(
            arr_trl=__version__, method="by hand", content_hash=self.content_hash
        )
        return self.model_copy(update={"provenance": provenance.model_copy(update={"measured": found})})

    def with_own_figures(self) -> "Rubric":
        """This rubric, of whose provenance what was measured of another text is left out; for people to see."""
        if self.provenance is None:
            return self
        return self.model_copy(update={"provenance": self.provenance.of_text(self.content_hash)})

    def render(self, numbered: bool = True) -> str:
        """The criteria as the judge reads them: one numbered line each, under their themes in order of appearance."""
        lines, theme = [], ""
        for number, criterion in enumerate(self.criteria, start=1):
            if criterion.theme != theme:
                theme = criterion.theme
                lines.append(f"[{theme}]" if theme else "[Other]")
            notes = criterion.notes()
            mark = f"{number}." if numbered else "-"
            lines.append(f"{mark} {criterion.text}" + (f" ({', '.join(notes)})" if notes else ""))
        if any(criterion.parent is not None for criterion in self.criteria):
            lines += ["", _ABOUT_PARENTS]
        return "\n".join(lines)

    @property
    def content_hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of what the judge reads; name and version do not enter it."""
        # without what is unset, so that a rubric from before there were parents has the hash it had
        content = json.dumps([self.task, [c.model_dump(exclude_none=True) for c in self.criteria]], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]


def _location(parts: tuple) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".") or "file"
