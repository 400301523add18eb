"""
The answers of published judges, as the embedded judge gives them: it finds in the question which form is asked for, and
knows one thing to say, how much of what was asked for each picture shows.
"""

import json
import math
import re
from collections.abc import Callable, Sequence

from ..chat import ChatReply, ChatRequest


Scores = Sequence[float]  # of each candidate shown, from 0 to 1

_WINNER = re.compile(r"<answer>([^<>\n]*\b)(1)( is better)</answer>", re.IGNORECASE)
_TAG = re.compile(r"<(answer|score)>")
_LINE = re.compile(r"^(?P<name>[A-Z][\w&() -]*?): (?:X|Y|Z|1-5)$", re.MULTILINE)
_NUMBERS = re.compile(r'"score": (\[[^\]]*\]|a number)')
_POINTS = re.compile(r'"question": "\.\.\.", "category"')
_RANGE = re.compile(r"(?:from|between) (-?\d+)(?: \([^)]*\))? (?:to|and) (-?\d+)|\((\d+)-(\d+)\)")


def published_form(request: ChatRequest, text: str) -> Callable[[Scores], ChatReply] | None:
    """
    How a question wants to be answered.

    Args:
        request ([`ChatRequest`]): the question.
        text (`str`): all that it says.

    Returns:
        `Callable` or `None`: makes the reply from the scores of the candidates; `None` for a question under a rubric.
    """
    if request.choices is not None:
        return None if request.choices == ("1", "2") else lambda scores: _labels(request.choices, scores)
    if request.json_schema is not None:
        return None
    if (winner := _WINNER.search(text)) is not None:
        first, _, rest = winner.groups()
        return lambda scores: ChatReply(text=f"<answer>{first}{1 + (scores[1] > scores[0])}{rest}</answer>")
    low, high = _range(text)
    if (tag := _TAG.search(text)) is not None:
        return lambda scores: ChatReply(text=f"<{tag[1]}>{_number(scores[0], low, high)}</{tag[1]}>")
    if (numbers := _NUMBERS.search(text)) is not None:
        count = numbers[1].count(",") + 1
        return lambda scores: ChatReply(text=json.dumps({"score": [float(_number(scores[0], low, high))] * count}))
    if lines := [found["name"] for found in _LINE.finditer(text)]:
        return lambda scores: ChatReply(text="\n".join(f"{name}: {_number(scores[0], low, high)}" for name in lines))
    return None


def wants_points(text: str) -> bool:
    """Whether a question asks for what has to be checked, and for no verdict."""
    return _POINTS.search(text) is not None


def _range(text: str) -> tuple[float, float]:
    found = _RANGE.search(text)
    low, high = (part for part in found.groups() if part is not None) if found else (0, 10)
    return float(low), float(high)


def _number(score: float, low: float, high: float) -> str:
    return f"{low + score * (high - low):.2f}"


def _labels(choices: tuple[str, ...], scores: Scores) -> ChatReply:
    """Numbers: those on either side of the score, by how near they are. Yes and No: how sure it is, of two pictures of the first."""
    if all(choice.isdecimal() for choice in choices):
        values = sorted(map(int, choices))
        at = values[0] + scores[0] * (values[-1] - values[0])
        mass = {str(value): max(0.0, 1 - abs(at - value)) for value in values}
    else:
        ahead = scores[0] if len(scores) == 1 else 0.5 + 0.5 * (scores[0] - scores[1])
        mass = {"Yes": 0.02 + 0.96 * ahead, "No": 0.98 - 0.96 * ahead}
    return ChatReply(choice_logprobs={label: math.log(p) for label, p in mass.items() if p > 0 and label in choices})
