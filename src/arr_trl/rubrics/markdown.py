"""
The Markdown of a rubric: criteria numbered as the judge reads them, under their themes, and where they come from. Here
are its fields alone, so that [`Rubric`] can stand on it.
"""

import re
from collections.abc import Sequence
from typing import Any

from .criterion import Criterion, criterion_line, criterion_of_line
from .provenance import Provenance


_ITEM = re.compile(r"\d+\. (?P<text>.+)")
_FACTS = re.compile(r"Task: (?P<task>[\w-]+) · Version: (?P<version>.+)")
_NO_THEME = "(no theme)"


def write_markdown(
    name: str, criteria: Sequence[Criterion], version: str, task: str, provenance: Provenance | None
) -> str:
    """Markdown of the fields of a rubric."""
    lines = [f"# {name}", "", f"Task: {task} · Version: {version}"]
    theme = ""
    for number, criterion in enumerate(criteria, start=1):
        if criterion.theme != theme:
            theme = criterion.theme
            lines += ["", f"## {theme or _NO_THEME}"]
        if not lines[-1].startswith(f"{number - 1}. "):
            lines.append("")
        lines.append(f"{number}. {criterion_line(criterion)}")
    if provenance is not None:
        lines += ["", "---", "", "| made from | |", "|---|---|"]
        lines += [f"| {fact} | {_cell(value)} |" for fact, value in provenance.facts().items()]
    return "\n".join(lines) + "\n"


def read_markdown(text: str) -> dict[str, Any]:
    """
    The fields of a rubric that its Markdown holds: all but where it comes from.

    Raises:
        `ValueError`: when there is no title, no criterion, or a line that is none of what is known.
    """
    name, facts, theme, criteria = None, {}, "", []
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if line == "---":
            break
        if line.startswith("# "):
            name = line[2:].strip()
        elif line.startswith("## "):
            theme = line[3:].strip()
            theme = "" if theme == _NO_THEME else theme
        elif match := _FACTS.fullmatch(line):
            facts = match.groupdict()
        elif match := _ITEM.fullmatch(line):
            criteria.append(criterion_of_line(match["text"], theme))
        elif line:
            raise ValueError(
                f"Line {number} of the Markdown is no title, theme or numbered criterion: {line[:80]!r}. A criterion "
                "is one line such as `1. Every object is there. (weight 2)`."
            )
    if name is None or not criteria:
        raise ValueError("The Markdown holds no rubric; it has to have a `# title` and criteria such as `1. ...`.")
    return {"name": name, "criteria": criteria, **facts}


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
