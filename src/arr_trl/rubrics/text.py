"""Rubrics as people read them: Markdown, and the text form `Rubric 1:` / `Theme: ...` / `- Tip: ...` of Auto-Rubric."""

import re
from dataclasses import dataclass, field
from itertools import groupby

from .criterion import Criterion, criterion_line, criterion_of_line
from .markdown import read_markdown, write_markdown
from .rubric import Rubric


_HEADING = re.compile(r"(?:#+\s*)?(?:\*\*)?Rubric\s*(?:\d+\s*[:：.]?|[:：])(?:\*\*)?\s*(?P<rest>.*)", re.IGNORECASE)
_BULLET = r"(?:[-•·●◦▪‣–—]\s*|[*+]\s+|\(?\d+[.)]\s+|\d+[、．]\s*)"
_THEME = re.compile(rf"{_BULLET}?(?:\*\*)?Theme\s*\d*\s*(?:\*\*)?\s*[:：]\s*(?:\*\*)?\s*(?P<theme>.*)", re.IGNORECASE)
_LABEL = r"(?:\*\*Tip\s*\d*\s*[:：]\s*\*\*|\*\*Tip\s*\d*\s*\*\*\s*[:：]|Tip\s*\d*\s*[:：])"
_TIP = re.compile(rf"{_BULLET}(?:{_LABEL}\s*)?(?P<tip>.*)|{_LABEL}\s*(?P<bare>.*)", re.IGNORECASE)
_RULE = re.compile(r"[-*_=–—]{3,}|([-*_])(?:[ \t]*\1){2,}")
# `-5 degrees`: a bullet or a minus; `1．5 metres`: a number of the list or a part of the size
_UNCLEAR = re.compile(r"[-–—](?=[\d.]*\d)|\d+．(?=\d)")
_MARKS = re.compile(r"[-*_=–—+•·●◦▪‣#>|\s]*")  # without a word


@dataclass
class _Item:
    """A theme or a tip, and where it begins."""

    number: int
    indent: int
    text: str
    tips: "list[_Item]" = field(default_factory=list)


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
    becomes a criterion under its theme; a theme without tips is a criterion itself. Tips begin with a bullet, a number or
    `Tip:`; what goes on in the next line is indented.

    Raises:
        `ValueError`: when the text holds no theme and no tip, or a line that is none of what is known; it is named.
    """
    themes: list[_Item] = []
    last: _Item | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        line, indent = raw.strip(), len(raw) - len(raw.lstrip())
        if heading := _HEADING.fullmatch(line):
            last, line = None, heading["rest"].strip("* ")
            if line and not _THEME.fullmatch(line):  # `Rubric 1: what it asks`
                last = _Item(number, indent, line)
                themes.append(last)
                continue
        if not line or _RULE.fullmatch(line):
            continue
        if unclear := _UNCLEAR.match(line):
            raise ValueError(
                f"Line {number} of the rubric text {name} begins with `{line[: unclear.end() + 1]}`, which could be a bullet "
                f"before a text or a part of it: {line[:80]!r}. Write the bullet with a space behind it, as "
                f"`- {line[unclear.end() :][:40]}` or `- {line[:40]}`."
            )
        if match := _THEME.fullmatch(line):
            last = _Item(number, indent, match["theme"].strip())
            themes.append(last)
        elif match := _TIP.fullmatch(line):
            if not themes:
                themes.append(_Item(number, indent, ""))
            last = _Item(number, indent, (match["tip"] or match["bare"] or "").strip())
            themes[-1].tips.append(last)
        elif last is not None and indent > last.indent:  # what goes on in the next line
            last.text = f"{last.text} {line}".strip()
        else:
            raise ValueError(
                f"Line {number} of the rubric text {name} is no theme and no tip: {line[:80]!r}. A tip begins with a bullet, "
                "as `- Every object is there.`, and what goes on in the next line is indented."
            )
    criteria = [
        _criterion(tip, theme.text if theme.tips else "", name) for theme in themes for tip in theme.tips or [theme]
    ]
    if not criteria:
        raise ValueError(
            f"The rubric text {name} holds no criterion; it has to have lines such as `Theme: ...` and `- Tip: ...`."
        )
    return Rubric(name=name, criteria=criteria, task=task)


def _criterion(item: _Item, theme: str, name: str) -> Criterion:
    if _MARKS.fullmatch(item.text):
        raise ValueError(f"Line {item.number} of the rubric text {name} has no text; write a criterion, or remove it.")
    try:
        return criterion_of_line(item.text, theme)
    except ValueError as error:
        raise ValueError(f"Line {item.number} of the rubric text {name}: {error}") from error


def to_markdown(rubric: Rubric) -> str:
    """Markdown for people: criteria numbered as the judge reads them, under their themes, and where they come from."""
    return write_markdown(**dict(rubric.with_own_figures()))


def parse_markdown(text: str) -> Rubric:
    """
    Read what [`to_markdown`] wrote, also after people have edited it. What stands behind a horizontal rule, where the
    rubric comes from, is not read back: an edited rubric is another one.

    Raises:
        `ValueError`: when there is no title or several, no criterion, or a line that is none of what is known.
    """
    return Rubric(**read_markdown(text))
