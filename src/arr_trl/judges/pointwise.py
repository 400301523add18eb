"""Pointwise: the judge sees one candidate at a time and gives it a score, on every criterion and overall."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, create_model

from ..chat import ChatRequest
from ..rubrics import Rubric
from .aggregate import best, mean_ranks, weighted_scores
from .dependent_criteria import without_void_scores
from .parsing import ReplyError, json_schema, parse_reply
from .store import StoredAnswer
from .verdict import CriterionResult, Verdict


@dataclass(frozen=True)
class PointwiseReading:
    """One reply about one candidate: scores from 0 to 1."""

    score: float
    criteria: tuple[float, ...]
    reason: str


@dataclass(frozen=True)
class PointwiseMode:
    """
    Args:
        decide (`str`):
            `"ranks"` takes the model's overall score, `"criteria"` adds its scores per criterion up.
        score_range (`tuple[int, int]`):
            Worst and best score.
    """

    decide: str
    score_range: tuple[int, int]
    template: ClassVar[str] = "pointwise"

    def views(self, orders: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        return [(candidate,) for candidate in range(len(orders[0]))]

    def variables(self, shown: int, rubric: Rubric) -> dict[str, Any]:
        return {"k": len(rubric.criteria), "low": self.score_range[0], "high": self.score_range[1]}

    def request(self, messages: list[dict], shown: int, rubric: Rubric) -> ChatRequest:
        return ChatRequest(messages, json_schema=json_schema(score_reply(*self.score_range, len(rubric.criteria))))

    def read(self, answer: StoredAnswer, positions: tuple[int, ...], rubric: Rubric) -> PointwiseReading:
        low, high = self.score_range
        k = len(rubric.criteria)
        reply = parse_reply(answer.reply, score_reply(low, high, k))
        if [c.criterion for c in reply.criteria] != list(range(1, k + 1)):
            raise ReplyError(f"`criteria` has to hold the criteria 1 to {k} in order, each once.")
        return PointwiseReading(
            score=(reply.score - low) / (high - low),
            criteria=tuple((c.score - low) / (high - low) for c in reply.criteria),
            reason=reply.reason,
        )

    def verdict(self, readings: list[PointwiseReading], rubric: Rubric) -> Verdict:
        """
        Candidates are ranked by score; the margin is the lead of the best. Where essential criteria decide before others
        no single number says as much, and the ranks stand alone.
        """
        by_criterion = [tuple(r.criteria[i] for r in readings) for i in range(len(rubric.criteria))]
        by_criterion = without_void_scores(by_criterion, rubric)
        if self.decide == "ranks":
            scores = tuple(r.score for r in readings)
            ranks = mean_ranks(list(scores))
            lead = _lead(list(scores))
        else:
            sums = weighted_scores(by_criterion, rubric)
            total = sum(c.weight for c in rubric.criteria)
            ranks = mean_ranks(sums)
            one_kind = len({c.essential for c in rubric.criteria}) == 1
            scores = tuple(sum(both) / total for both in sums) if one_kind else None
            # of the sums that decide: those over essential criteria, the others where those are level
            essential = _lead([both[0] for both in sums])
            lead = (essential or _lead([both[1] for both in sums if both[0] == max(sums)[0]])) / total
        return Verdict(
            winner=best(ranks),
            ranks=ranks,
            scores=scores,
            margin=lead,
            criteria=tuple(
                CriterionResult(number, best(mean_ranks(list(points))))
                for number, points in enumerate(by_criterion, start=1)
            ),
            reason=readings[0].reason,
            candidates=len(ranks),
        )


def _lead(scores: list[float]) -> float:
    """By how much the best is ahead of the next."""
    first, second = sorted(scores, reverse=True)[:2]
    return first - second


@lru_cache(maxsize=64)
def score_reply(low: int, high: int, k: int) -> type[BaseModel]:
    """The reply that scores one image under `k` criteria, from `low` to `high`."""
    strict = ConfigDict(strict=True, extra="forbid")
    score = Annotated[int, Field(ge=low, le=high)]
    criterion = create_model(
        "CriterionScore", __config__=strict, criterion=(Annotated[int, Field(ge=1, le=k)], ...), score=(score, ...)
    )
    return create_model(
        "Score",
        __config__=strict,
        criteria=(Annotated[list[criterion], Field(min_length=k, max_length=k)], ...),
        reason=(str, ...),
        score=(score, ...),
    )
