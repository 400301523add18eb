"""Where a rubric may come from: an object, a file, a repository on the Hub, or text in `Theme` / `Tip` form."""

import re
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from ..rubrics import Criterion, Rubric


_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_HEADING = re.compile(r"(?:#+\s*|\*\*)?Rubric\s*\d*\s*:?(?:\*\*)?\s*(?P<rest>.*)", re.IGNORECASE)
_THEME = re.compile(r"(?:[-*•]\s*|\*\*)?Theme\s*\d*\s*:\s*(?:\*\*)?\s*(?P<theme>.*)", re.IGNORECASE)
_TIP = re.compile(
    r"[-*•]\s*(?:\*\*)?(?:Tip\s*\d*\s*:\s*)?(?:\*\*)?\s*(?P<tip>.*)|Tip\s*\d*\s*:\s*(?P<bare>.*)", re.IGNORECASE
)


def resolve_rubric(rubric: Rubric | str | Path) -> Rubric | None:
    """
    The rubric that is meant, `None` for `"auto"`.

    Args:
        rubric ([`Rubric`] or `str` or `Path`):
            A rubric, a JSON file, a text file in the form `Rubric 1:` / `Theme: ...` / `- Tip: ...`, a repository on
            the Hub (`"user/name"`, its `rubric.json`), or `"auto"`. A file wins over a repository of the same name.

    Raises:
        `FileNotFoundError`: when there is no such file or repository.
        `ValueError`: when what is there is not a rubric.
    """
    if isinstance(rubric, Rubric):
        return rubric
    if rubric == "auto":
        return None
    path = Path(rubric)
    if (
        not path.exists()
        and isinstance(rubric, str)
        and _REPO.fullmatch(rubric)
        and path.suffix not in (".json", ".txt")
    ):
        try:
            return Rubric.load(hf_hub_download(rubric, "rubric.json"))
        except (RepositoryNotFoundError, EntryNotFoundError) as error:
            raise FileNotFoundError(
                f"There is no file {rubric}, and no `rubric.json` in a repository {rubric} on the Hub "
                "that can be reached; check `rubric`."
            ) from error
    if path.suffix == ".txt" and path.is_file():
        return parse_rubric_text(path.read_text(encoding="utf-8"), name=path.stem)
    return Rubric.load(path)


def parse_rubric_text(text: str, name: str, task: str = "text-to-image") -> Rubric:
    """
    Read a rubric from text in the form `Rubric 1:` / `Theme: ...` / `- Tip: ...`, as Auto-Rubric writes it. Every tip
    becomes a criterion under its theme; a theme without tips is a criterion itself.

    Raises:
        `ValueError`: when the text holds no theme and no tip.
    """
    themes: list[tuple[str, list[str]]] = []
    for line in map(str.strip, text.splitlines()):
        if match := _THEME.fullmatch(line):
            themes.append((match["theme"].strip(), []))
        elif _HEADING.fullmatch(line) or not line:
            continue
        elif match := _TIP.fullmatch(line):
            if not themes:
                themes.append(("", []))
            themes[-1][1].append((match["tip"] or match["bare"] or "").strip())
        elif themes and themes[-1][1]:  # a tip that goes on in the next line
            themes[-1][1][-1] += f" {line}"
        elif themes:
            themes[-1] = (f"{themes[-1][0]} {line}".strip(), [])
    criteria = [
        Criterion(text=tip, theme=theme if tips else "")
        for theme, tips in themes
        for tip in filter(None, tips or [theme])
    ]
    if not criteria:
        raise ValueError(
            f"The rubric text {name} holds no criterion; it has to have lines such as `Theme: ...` and `- Tip: ...`."
        )
    return Rubric(name=name, criteria=criteria, task=task)
