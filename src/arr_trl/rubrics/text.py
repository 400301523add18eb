"""Rubrics as people read them: Markdown, and the text form `Rubric 1:` / `Theme: ...` / `- Tip: ...` of Auto-Rubric."""

import re
from itertools import groupby

from .rubric import Criterion, Rubric


_HEADING = re.compile(r"(?:#+\s*)?(?:\*\*)?Rubric\s*(?:\d+\s*[:.]?|:)(?:\*\*)?\s*(?P<rest>.*)", re.IGNORECASE)
_THEME = re.compile(r"(?:[-•]\s*|\*\s+)?(?:\*\*)?Theme\s*\d*\s*:\s*(?:\*\*)?\s*(?P<theme>.*)", re.IGNORECASE)
_LABEL = r"(?:\*\*Tip\s*\d*\s*:\s*\*\*|\*\*Tip\s*\d*\s*\*\*\s*:|Tip\s*\d*\s*:)"
_TIP = re.compile(rf"(?:[-•]\s*|\*\s+)(?:{_LABEL}\s*)?(?P<tip>.*)|{_LABEL}\s*(?P<bare>.*)", re.IGNORECASE)
# What stands behind a criterion that is not as plain as most.
_NOTES = re.compile(r"(?P<text>.*\S) \((?P<notes>(?:essential|weight [0-9.e+-]+)(?:, weight [0-9.e+-]+)?)\)")
_ITEM = re.compile(r"\d+\. (?P<text>.+)")
_MARKDOWN_FACTS = re.compile(r"Task: (?P<task>[\w-]+) · Version: (?P<version>.+)")
_NO_THEME = "(no theme)"


def to_rubric_text(rubric: Rubric) -> str:
    """The text form. A criterion without a theme stands as a theme without tips, as the form has it."""
    lines: list[str] = []
    number = 0
    for theme, criteria in groupby(rubric.criteria, key=lambda criterion: criterion.theme):
        texts = [_noted(criterion) for criterion in criteria]
        blocks = [(theme, texts)] if theme else [(text, []) for text in texts]
        for heading, tips in blocks:
            number += 1
            lines += [f"Rubric {number}:", f"Theme: {heading}", *(f"- Tip: {tip}" for tip in tips), ""]
    return "\n".join(lines)


def parse_rubric_text(text: str, name: str, task: str = "text-to-image") -> Rubric:
    """
    Read a rubric from text in the form `Rubric 1:` / `Theme: ...` / `- Tip: ...`, as Auto-Rubric writes it. Every tip
    becomes a criterion under its theme; a theme without tips is a criterion itself.

    Raises:
        `ValueError`: when the text holds no theme and no tip.
    """
    themes: list[tuple[str, list[str]]] = []
    for line in map(str.strip, text.splitlines()):
        if heading := _HEADING.fullmatch(line):
            line = heading["rest"].strip("* ")
            if line and not _THEME.fullmatch(line):  # `Rubric 1: what it asks`
                themes.append((line, []))
                continue
        if match := _THEME.fullmatch(line):
            themes.append((match["theme"].strip(), []))
        elif not line:
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
        _criterion(tip, theme=theme if tips else "") for theme, tips in themes for tip in filter(None, tips or [theme])
    ]
    if not criteria:
        raise ValueError(
            f"The rubric text {name} holds no criterion; it has to have lines such as `Theme: ...` and `- Tip: ...`."
        )
    return Rubric(name=name, criteria=criteria, task=task)


def to_markdown(rubric: Rubric) -> str:
    """Markdown for people: criteria numbered as the judge reads them, under their themes, and where they come from."""
    lines = [f"# {rubric.name}", "", f"Task: {rubric.task} · Version: {rubric.version}"]
    theme = ""
    for number, criterion in enumerate(rubric.criteria, start=1):
        if criterion.theme != theme:
            theme = criterion.theme
            lines += ["", f"## {theme or _NO_THEME}"]
        if not lines[-1].startswith(f"{number - 1}. "):
            lines.append("")
        lines.append(f"{number}. {_noted(criterion)}")
    if rubric.provenance is not None:
        lines += ["", "---", "", "| made from | |", "|---|---|"]
        lines += [f"| {name} | {_cell(value)} |" for name, value in rubric.provenance.facts().items()]
    return "\n".join(lines) + "\n"


def parse_markdown(text: str) -> Rubric:
    """
    Read what [`to_markdown`] wrote, also after people have edited it. What stands behind a horizontal rule, where the
    rubric comes from, is not read back: an edited rubric is another one.

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
        elif match := _MARKDOWN_FACTS.fullmatch(line):
            facts = match.groupdict()
        elif match := _ITEM.fullmatch(line):
            criteria.append(_criterion(match["text"], theme))
        elif line:
            raise ValueError(
                f"Line {number} of the Markdown is no title, theme or numbered criterion: {line[:80]!r}. A criterion "
                "is one line such as `1. Every object is there. (weight 2)`."
            )
    if name is None or not criteria:
        raise ValueError("The Markdown holds no rubric; it has to have a `# title` and criteria such as `1. ...`.")
    return Rubric(name=name, criteria=criteria, **facts)


def _noted(criterion: Criterion) -> str:
    notes = criterion.notes()
    if not notes and _NOTES.fullmatch(criterion.text):  # text that ends like notes is told from them by real ones
        notes = ["weight 1"]
    return f"{criterion.text} ({', '.join(notes)})" if notes else criterion.text


def _criterion(line: str, theme: str) -> Criterion:
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


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
