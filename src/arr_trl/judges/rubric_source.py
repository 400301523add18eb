"""Where a rubric may come from: an object, a file, or a repository on the Hub."""

import re
import warnings
from pathlib import Path

from ..rubrics import Rubric, parse_markdown, parse_rubric_text
from ..rubrics.criterion import reads_like_notes
from ..text_files import read_text


_REPO = re.compile(r"[\w.-]+/[\w.-]+")


def resolve_rubric(rubric: Rubric | str | Path) -> Rubric | None:
    """
    The rubric that is meant, `None` for `"auto"`.

    Args:
        rubric ([`Rubric`] or `str` or `Path`):
            A rubric, a JSON file, the name of one that ships with the package (`"tiny_scenes"`), a text file in the form `Rubric 1:` / `Theme: ...` / `- Tip: ...`, a Markdown file as
            `arr-trl rubric show` writes it, a repository on the Hub (`"user/name"`, its `rubric.json`), or `"auto"`. A
            file wins over a repository of the same name.

    Raises:
        `FileNotFoundError`: when there is no such file or repository.
        `ValueError`: when what is there is not a rubric.
    """
    if not isinstance(rubric, Rubric):
        if rubric == "auto":
            return None
        rubric = _read(rubric)
    _tell_oddities(rubric)
    return rubric


def _read(rubric: str | Path) -> Rubric:
    path = Path(rubric)
    if (
        not path.exists()
        and isinstance(rubric, str)
        and _REPO.fullmatch(rubric)
        and path.suffix not in (".json", ".txt", ".md")
    ):
        try:
            return Rubric.from_hub(rubric)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"There is no file {rubric}, and no `rubric.json` in a repository {rubric} on the Hub "
                "that can be reached; check `rubric`."
            ) from error
    if path.suffix.lower() == ".txt" and path.is_file():
        return parse_rubric_text(read_text(path), name=path.stem)
    if path.suffix.lower() == ".md" and path.is_file():
        return parse_markdown(read_text(path))
    return Rubric.load(path)


def _tell_oddities(rubric: Rubric) -> None:
    """What is read as it is written, and may not be meant."""
    for theme in {criterion.theme for criterion in rubric.criteria if reads_like_notes(criterion.theme)}:
        warnings.warn(
            f"The theme {theme[:80]!r} of the rubric {rubric.name} gives its criteria no weight; write it behind each."
        )
    places: dict[str, int] = {}
    for number, criterion in enumerate(rubric.criteria, start=1):
        first = places.setdefault(criterion.text.casefold().rstrip(".。"), number)
        if first != number:
            warnings.warn(
                f"Criteria {first} and {number} of the rubric {rubric.name} say the same, {criterion.text[:80]!r}, which then "
                "counts twice; remove one, or give the other a weight."
            )
