"""Rubrics as people read them: Markdown, and the text form `Rubric 1:` / `Theme: ...` / `- Tip: ...` of Auto-Rubric."""

import re
from itertools import groupby

from .criterion import criterion_line, criterion_of_line
from .markdown import read_markdown, write_markdown
from .rubric import Rubric


_HEADING = re.compile(r"(?:#+\s*)?(?:\*\*)?Rubric\s*(?:\d+\s*[:.]?|:)(?:\*\*)?\s*(?P<rest>.*)", re.IGNORECASE)
_THEME = re.compile(r"(?:[-•]\s*|\*\s+)?(?:\*\*)?Theme\s*\d*\s*:\s*(?:\*\*)?\s*(?P<theme>.*)", re.IGNORECASE)
_LABEL = r"(?:\*\*Tip\s*\d*\s*:\s*\*\*|\*\*Tip\s*\d*\s*\*\*\s*:|Tip\s*\d*\s*:)"
_TIP = re.compile(rf"(?:[-•]\s*|\*\s+)(?:{_LABEL}\s*)?(?P<tip>.*)|{_LABEL}\s*(?P<bare>.*)", re.IGNORECASE)


def to_rubric_text(rubric: Rubric) -> str:
    """The text form. A criterion without a theme stands as a theme without tips, as the form has it."""
    lines: list[str] = []
    number = 0
    for theme, criteria in groupby(rubric.criteria, key=lambda criterion: criterion.theme):
        texts = [criterion_line(criterion) for criterion in criteria]
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
        criterion_of_line(tip, theme=theme if tips else "")
        for theme, tips in themes
        for tip in filter(None, tips or [theme])
    ]
    if not criteria:
        raise ValueError(
            f"The rubric text {name} holds no criterion; it has to have lines such as `Theme: ...` and `- Tip: ...`."
        )
    return Rubric(name=name, criteria=criteria, task=task)


def to_markdown(rubric: Rubric) -> str:
    """Markdown for people: criteria numbered as the judge reads them, under their themes, and where they come from."""
    return write_markdown(**dict(rubric))


def parse_markdown(text: str) -> Rubric:
    """
    Read what [`to_markdown`] wrote, also after people have edited it. What stands behind a horizontal rule, where the
    rubric comes from, is not read back: an edited rubric is another one.

    Raises:
        `ValueError`: when there is no title, no criterion, or a line that is none of what is known.
    """
    return Rubric(**read_markdown(text))
