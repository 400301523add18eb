"""What the answers to a preset's questions add up to: functions that a preset names, so that its file runs nothing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Part:
    """
    What one question said of a picture.

    Args:
        name (`str`): the question's.
        values (`Mapping[str, float]`): the numbers of the answer.
        weight (`float`): of the question.
        span (`tuple[float, float]`, *optional*): the worst and the best that a number can be.
    """

    name: str
    values: Mapping[str, float]
    weight: float = 1.0
    span: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        return fmean(self.values.values())


def only(parts: Sequence[Part]) -> float:
    """The one number there is."""
    (part,) = parts
    (value,) = part.values.values()
    return value


def mean(parts: Sequence[Part]) -> float:
    """The mean of the questions by weight, each the mean of its numbers."""
    return sum(p.weight * p.mean for p in parts) / sum(p.weight for p in parts)


def minimum(parts: Sequence[Part]) -> float:
    """The least of all numbers."""
    return min(min(p.values.values()) for p in parts)


def geometric_mean(parts: Sequence[Part]) -> float:
    """The geometric mean of the questions by weight, each the mean of its numbers; 0 where one is 0."""
    if min(p.mean for p in parts) <= 0:
        return 0.0
    return math.exp(sum(p.weight * math.log(p.mean) for p in parts) / sum(p.weight for p in parts))


def sqrt_product(parts: Sequence[Part]) -> float:
    """The root of the product of two numbers."""
    first, second = parts
    return math.sqrt(max(0.0, first.mean * second.mean))


def editscore(parts: Sequence[Part]) -> float:
    """
    EditScore and VIEScore ([paper](https://huggingface.co/papers/2312.14867)): the least number of each question on a scale
    of 0 to 10, and the root of the product of both.
    """
    semantics, quality = (10 * (min(p.values.values()) - p.span[0]) / (p.span[1] - p.span[0]) for p in parts)
    return math.sqrt(semantics * quality)


def winner(parts: Sequence[Part]) -> float:
    """1 for the picture that won, 0 for the other, one half each for a tie."""
    (part,) = parts
    return part.values[part.name]


COMBINE: dict[str, Callable[[Sequence[Part]], float]] = {
    "only": only,
    "mean": mean,
    "min": minimum,
    "geometric_mean": geometric_mean,
    "sqrt_product": sqrt_product,
    "editscore": editscore,
    "pair_shares": mean,
    "winner": winner,
}
