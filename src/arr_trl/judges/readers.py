"""
What published judges answer, read strictly: labels by their log-probability, numbers in JSON, a tag, lines, a winner. A
reader gives what a reply says or raises a [`ReplyError`]; it has no default.
"""

import json
import math
import re
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..chat import ChatReply
from ..text_files import unique_keys
from .choice import LEAST_MASS
from .parsing import ReplyError, checked_length, without_thoughts
from .soft_tifa import answer_labels, answer_probability
from .store import StoredAnswer


_NUMBER = r"[-+]?\d+(?:\.\d+)?"
# A number and not the beginning of another, of a range or of a list; "4/5" and "4." are numbers.
_ONE_NUMBER = rf"(?P<value>{_NUMBER})(?![.,]?\d)(?!\s*(?:-|–|to|or)\s*\d)"
_MOST_TRIES = 500  # openings at which JSON is looked for, the last ones
_SHARES_MISS = 0.02  # by how much two shares may miss 1


@dataclass(frozen=True)
class Reading:
    """
    What one reply says.

    Args:
        values (`tuple[dict[str, float], ...]`):
            The numbers by name, as the judge gave them, for each picture that is judged: one, or the first and the second.
        mass (`float`, *optional*): probability of all labels together, where the answer is one of them.
        criteria (`tuple[int | None, ...]`): which of two pictures won each part of the answer, `None` for neither.
    """

    values: tuple[dict[str, float], ...]
    mass: float | None = None
    criteria: tuple[int | None, ...] = field(default=())


class Reader(BaseModel):
    """A way to read a reply; `read(answer, name)` takes the name of the question for numbers that have none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def choices(self, item: Any = None) -> tuple[str, ...] | None:
        """The labels whose log-probabilities are asked for, `None` where the answer is text."""
        return None

    @property
    def pictures(self) -> int:
        """How many pictures it reads numbers for."""
        return 1

    @property
    def count(self) -> int:
        """How many numbers it reads for each of them, at most."""
        return 1

    def read(self, answer: StoredAnswer | ChatReply, name: str, item: Any = None) -> Reading:
        """
        Raises:
            [`ReplyError`]: when the reply is not what was asked for.
        """
        raise NotImplementedError


class LabelReader(Reader):
    """
    The expected value over labels of one token, by the log-probability of each as the first token of the reply: of
    `{"Yes": 1, "No": 0}` the probability of Yes among the two. White-space spellings of a label are one; `fold_case` adds
    yes and YES. With `absolute` it is not divided by the probability of all labels together.
    """

    labels: dict[str, float] = Field(min_length=2)
    fold_case: bool = False
    absolute: bool = False

    def choices(self, item: Any = None) -> tuple[str, ...]:
        return tuple(self._spellings)

    @property
    def _spellings(self) -> dict[str, float]:
        found = dict(self.labels)
        if self.fold_case:
            for label, value in self.labels.items():
                found |= dict.fromkeys((label.lower(), label.upper(), label.capitalize()), value)
        return found

    def read(self, answer: StoredAnswer | ChatReply, name: str, item: Any = None) -> Reading:
        logprobs, values = answer.choice_logprobs or {}, self._spellings
        mass = {label: math.exp(logprobs[label]) for label in values if label in logprobs}
        total = sum(mass.values())
        if total < LEAST_MASS:
            raise ReplyError(
                f"The first token of the reply is one of {', '.join(self.labels)} with a probability of {total:.2g} only. "
                "A model that thinks first has to be told not to, by `--judge_extra_body "
                '\'{"chat_template_kwargs": {"enable_thinking": false}}\'`.'
            )
        value = sum(p * values[label] for label, p in mass.items()) / (1.0 if self.absolute else total)
        return Reading(({name: value},), mass=total)


class ExpectedReader(Reader):
    """
    The probability of the answer that a question of a list expects, not divided by that of others (Soft-TIFA, see
    [`SoftTIFA`]); `expected` is the place of that answer in an item of the list.
    """

    expected: int = Field(ge=0)

    def choices(self, item: Any = None) -> tuple[str, ...]:
        return tuple(answer_labels(item[self.expected]))

    def read(self, answer: StoredAnswer | ChatReply, name: str, item: Any = None) -> Reading:
        return Reading(({name: answer_probability(answer, answer_labels(item[self.expected]))},))


class NumbersReader(Reader):
    """Named numbers from `low` to `high`: the list, or the one number, at `key` of the last JSON object in the reply."""

    numbers: tuple[str, ...] = Field(min_length=1)
    low: float
    high: float
    key: str = "score"

    @property
    def count(self) -> int:
        return len(self.numbers)

    def read(self, answer: StoredAnswer | ChatReply, name: str, item: Any = None) -> Reading:
        found = _last_json(without_thoughts(checked_length(_text(answer))), "{").get(self.key)
        found = found if isinstance(found, list) else [found]
        if len(found) != len(self.numbers) or any(type(n) not in (int, float) for n in found):
            raise ReplyError(
                f"`{self.key}` of the JSON object has to be {len(self.numbers)} number(s), and is {json.dumps(found)[:80]}."
            )
        return Reading(({n: _within(v, self.low, self.high) for n, v in zip(self.numbers, found, strict=True)},))


class TagReader(Reader):
    """
    One number from `low` to `high` in the last `<tag>...</tag>` of the reply, or at `key` of a JSON object in it.
    """

    tag: str = Field(pattern=r"^[a-z_]+$")
    low: float
    high: float
    key: str | None = None

    def read(self, answer: StoredAnswer | ChatReply, name: str, item: Any = None) -> Reading:
        text = _in_tag(_text(answer), self.tag)
        if self.key is not None:
            found = _last_json(text, "{").get(self.key)
            if type(found) not in (int, float):
                raise ReplyError(f"`{self.key}` in <{self.tag}> has to be a number, and is {json.dumps(found)[:80]}.")
        elif re.fullmatch(_NUMBER, text) is None:
            raise ReplyError(f"<{self.tag}> has to hold one number, and holds {text[:80]!r}.")
        else:
            found = float(text)
        return Reading(({name: _within(found, self.low, self.high)},))


class LinesReader(Reader):
    """
    Lines such as `Name Score (1-5): 3.5`, `Name: 4` or `## Name: 3`, each of them exactly once.

    Args:
        lines (`dict[str, tuple[float, float]]`): names of the lines, each with its worst and best number.
        sections (`tuple[str, ...]`, *optional*): headings of which each stands before lines of its own.
        numbered (`bool`): sections begin with their number, `1. `, whatever their heading says.
        optional (`bool`): a section whose lines say N/A counts for none of the pictures.
        pair (`tuple[str, str]`, *optional*): which of the lines is that of the first and of the second picture.
        better (`str`, *optional*): the line that says which is better; where it says the contrary, nothing can be read.
        shares (`bool`): what the pair has in a section has to be 1 together.
    """

    lines: dict[str, tuple[float, float]] = Field(min_length=1)
    sections: tuple[str, ...] = ()
    numbered: bool = False
    optional: bool = False
    pair: tuple[str, str] | None = None
    better: str | None = None
    shares: bool = False

    @model_validator(mode="after")
    def _lines_exist(self) -> "LinesReader":
        named = [*(self.pair or ()), *([self.better] if self.better else ())]
        if missing := [name for name in named if name not in self.lines]:
            raise ValueError(f"`lines` has no {missing[0]!r}")
        if self.pair is None and (self.sections or self.better or self.shares):
            raise ValueError("`sections`, `better` and `shares` are about a `pair` of lines")
        return self

    @property
    def pictures(self) -> int:
        return 1 if self.pair is None else 2

    @property
    def count(self) -> int:
        return len(self.lines) if self.pair is None else max(1, len(self.sections))

    def read(self, answer: StoredAnswer | ChatReply, name: str, item: Any = None) -> Reading:
        text = without_thoughts(checked_length(_text(answer)))
        if self.pair is None:
            found = {line: self._number(text, line) for line in self.lines}
            return self._reading([found])
        first, second = self.pair
        parts = self._split(text)
        values: list[dict[str, float]] = [{}, {}]
        for title, part in parts.items():
            pair = [self._number(part, line) for line in (first, second)]
            if None in pair:
                continue
            if self.shares and abs(sum(pair) - 1) > _SHARES_MISS:
                raise ReplyError(f"The shares of {title} are {pair[0]:g} and {pair[1]:g}, which is not 1 together.")
            for of_picture, number in zip(values, pair, strict=True):
                of_picture[title or name] = number
        if self.better is not None:
            self._check_better(self._number(text, self.better), [next(iter(v.values()), 0.0) for v in values])
        return self._reading(values)

    def _reading(self, values: list[dict[str, float | None]]) -> Reading:
        kept = tuple({line: number for line, number in v.items() if number is not None} for v in values)
        if not kept[0]:
            raise ReplyError("The reply says N/A of everything.")
        return Reading(kept)

    def _split(self, text: str) -> dict[str, str]:
        """The part of the text under each heading."""
        if not self.sections:
            return {"": text}
        starts, end = [], 0
        for number, title in enumerate(self.sections, start=1):
            heading = rf"{number}\. " if self.numbered else re.escape(title)
            found = re.compile(rf"^[\s#*]*{heading}", re.MULTILINE | re.IGNORECASE).search(text, end)
            if found is None:
                raise ReplyError(f"The reply has no section {number}, {title}.")
            starts.append(found.end())
            end = found.end()
        ends = [*starts[1:], len(text)]
        return {title: text[a:b] for title, a, b in zip(self.sections, starts, ends, strict=True)}

    def _number(self, text: str, line: str) -> float | None:
        """The number of a line, `None` for one that may say N/A and does."""
        heading = rf"^[\s#*-]*{re.escape(line)}(?:\s+Score)?\s*(?:\(\s*\d+\s*-\s*\d+\s*\))?[\s*]*:[\s*]*"
        found = list(re.finditer(heading, text, re.MULTILINE | re.IGNORECASE))
        if len(found) != 1:
            raise ReplyError(f"The reply has {len(found)} lines {line!r}, and needs one.")
        rest = text[found[0].end() :]
        if self.optional and re.match(r"N/?A\b", rest, re.IGNORECASE):
            return None
        number = re.match(_ONE_NUMBER, rest)
        if number is None:
            raise ReplyError(f"The line {line!r} has no number, but {rest[:40]!r}.")
        return _within(float(number["value"]), *self.lines[line])

    def _check_better(self, named: float | None, ratings: list[float]) -> None:
        first, second = ratings
        if first != second and named != (1 if first > second else 2):
            raise ReplyError(
                f"The ratings are {first:g} and {second:g}, and the better image is said to be {named:g}."
            )


class WinnerReader(Reader):
    """
    Which of two pictures is better: of the labels exactly one stands in the last `<answer>` of the reply, in the `reply`,
    or at `winner` of its last JSON object.

    Args:
        winner (`dict[str, int | None]`): for each label the place of the picture that it names, `None` for a tie.
        where (`str`): `"answer"`, `"reply"` or `"json"`. In JSON `categories` may say winners of their own in
            `cat_winner`.
    """

    winner: dict[str, Literal[0, 1] | None] = Field(min_length=2)
    where: Literal["answer", "reply", "json"] = "answer"

    @property
    def pictures(self) -> int:
        return 2

    def read(self, answer: StoredAnswer | ChatReply, name: str, item: Any = None) -> Reading:
        text = checked_length(_text(answer))
        if self.where == "json":
            return self._read_json(_last_json(without_thoughts(text), "{"), name)
        winner = self._winner(_in_tag(text, "answer") if self.where == "answer" else without_thoughts(text))
        return Reading(tuple({name: share} for share in _won(winner)))

    def _read_json(self, found: dict[str, Any], name: str) -> Reading:
        categories = found.get("categories") or []
        if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
            raise ReplyError("`categories` of the JSON object has to be a list of objects.")
        # by place: their names are free text, and differ from reply to reply
        criteria = tuple(self._winner(str(c.get("cat_winner", ""))) for c in categories)
        values = tuple({name: share} for share in _won(self._winner(str(found.get("winner", "")))))
        dims = [dim for c in categories for dim in (c["dims"] if isinstance(c.get("dims"), list) else [])]
        points = [(dim.get("score_1"), dim.get("score_2")) for dim in dims if isinstance(dim, dict)]
        if (
            points
            and all(type(p) in (int, float) and p >= 0 for both in points for p in both)
            and all(map(sum, points))
        ):
            first = fmean(a / (a + b) for a, b in points)
            values = tuple(v | {"share": share} for v, share in zip(values, (first, 1 - first), strict=True))
        return Reading(values, criteria=criteria)

    def _winner(self, text: str) -> int | None:
        words = " ".join(text.split())
        named = [
            label for label in self.winner if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", words, re.IGNORECASE)
        ]
        if len(named) != 1:
            what = "none" if not named else "more than one"
            raise ReplyError(f"The answer has {what} of {', '.join(map(repr, self.winner))}: {words[:80]!r}.")
        return self.winner[named[0]]


class PrinciplesReader(Reader):
    """The points of a list that a judge is told to check: `question` and `category` of each object of the last JSON list."""

    principles: tuple[str, ...] = Field(min_length=1, description="the categories there are")
    most: int = 12

    def points(self, answer: StoredAnswer | ChatReply) -> list[dict[str, str]]:
        """
        Raises:
            [`ReplyError`]: when the reply is no such list.
        """
        found = _last_json(without_thoughts(checked_length(_text(answer))), "[")
        points = [
            {"question": " ".join(p["question"].split()), "category": p["category"]}
            for p in found
            if isinstance(p, dict)
            and isinstance(p.get("question"), str)
            and p["question"].strip()
            and p.get("category") in self.principles
        ]
        if not 0 < len(found) <= self.most or len(points) != len(found):
            raise ReplyError(
                f"The list has to hold 1 to {self.most} objects with a `question` and a `category`, one of "
                f"{', '.join(self.principles)}."
            )
        return points

    def read(self, answer: StoredAnswer | ChatReply, name: str, item: Any = None) -> Reading:
        return Reading(({name: float(len(self.points(answer)))},))


def points_of(answer: StoredAnswer | ChatReply, count: int) -> tuple[int, ...]:
    """
    What a reply says of each point that it was told to check: `score`, 0 or 1, of each object of its last JSON list.

    Raises:
        [`ReplyError`]: when there is no such list, or not one entry for each of `count` points.
    """
    found = _last_json(without_thoughts(checked_length(_text(answer))), "[")
    said = tuple(point.get("score") if isinstance(point, dict) else None for point in found)
    if len(said) != count or any(type(score) is not int or score not in (0, 1) for score in said):
        raise ReplyError(f"The list has to say `score`, 0 or 1, of each of {count} points.")
    return said


def _won(winner: int | None) -> tuple[float, float]:
    return (0.5, 0.5) if winner is None else (float(winner == 0), float(winner == 1))


def _text(answer: StoredAnswer | ChatReply) -> str | None:
    return answer.reply if isinstance(answer, StoredAnswer) else answer.text


def _within(number: float, low: float, high: float) -> float:
    if not low <= number <= high:  # NaN too
        raise ReplyError(f"The number {number:g} is outside {low:g} to {high:g}.")
    return float(number)


def _in_tag(text: str | None, tag: str) -> str:
    found = re.findall(rf"<{tag}>((?:(?!<{tag}>).)*?)</{tag}>", checked_length(text), re.DOTALL | re.IGNORECASE)
    if not found:
        raise ReplyError(f"The reply has no <{tag}>…</{tag}>.")
    return found[-1].strip()


def _last_json(text: str, opening: Literal["{", "["]) -> Any:
    """The last object or list in a text that is in none other."""
    decoder = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=_no_number)
    last, end = None, 0
    for start in [found.start() for found in re.finditer(re.escape(opening), text)][-_MOST_TRIES:]:
        if start < end:
            continue
        try:
            last, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
    if last is None:
        raise ReplyError(f"The reply has no JSON {'object' if opening == '{' else 'list'} that can be read.")
    return last


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
