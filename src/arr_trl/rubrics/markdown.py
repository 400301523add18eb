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
        `ValueError`: when there is no title or several, no criterion, or a line that is none of what is known.
    """
    name, facts, criteria = None, {}, []
    theme, begun, empty_theme, after_rule = "", 0, False, False
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if not line or (after_rule and line.startswith("|")):  # the table says where it comes from
            continue
        if not after_rule and line == "---":
            after_rule = True
        elif not after_rule and name is None and line.startswith("# "):
            name = line[2:].strip()
        elif not after_rule and not empty_theme and line.startswith("## "):
            theme, begun, empty_theme = line[3:].strip(), number, True
            theme = "" if theme == _NO_THEME else theme
        elif not after_rule and not facts and (match := _FACTS.fullmatch(line)):
            facts = match.groupdict()
        elif not after_rule and (match := _ITEM.fullmatch(line)):
            criteria.append(_criterion(match["text"], theme, number))
            empty_theme = False
        else:
            raise ValueError(
                f"Line {number} of the Markdown cannot stand there: {line[:80]!r}. There is one `# title`, one line with "
                "the task, themes as `## theme`, each with criteria under it, and criteria of one line such as `1. Every "
                "object is there. (weight 2)`; below `---` is a table alone."
            )
    if empty_theme:
        raise ValueError(f"The theme in line {begun} of the Markdown has no criteria; write some, or remove it.")
    if name is None or not criteria:
        raise ValueError("The Markdown holds no rubric; it has to have a `# title` and criteria such as `1. ...`.")
    return {"name": name, "criteria": criteria, **facts}


def _criterion(line: str, theme: str, number: int) -> Criterion:
    try:
        return criterion_of_line(line, theme)
    except ValueError as error:
        raise ValueError(f"Line {number} of the Markdown: {error}") from error


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
