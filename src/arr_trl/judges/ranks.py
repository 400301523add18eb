"""Ranks: the judge is shown all candidates at once and ranks them, on every criterion and overall."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, create_model

from ..chat import ChatRequest
from ..rubrics import Rubric
from .aggregate import agreed_ranks, best, consistent, mean_ranks, weighted_scores
from .dependent_criteria import points_of_ranks
from .parsing import ReplyError, json_schema, parse_reply
from .store import StoredAnswer
from .verdict import CriterionResult, Verdict


@dataclass(frozen=True)
class RanksReading:
    """One reply: ranks by candidate (not by position), overall and per criterion, and which was shown first."""

    ranks: tuple[float, ...]
    criteria: tuple[tuple[float, ...], ...]
    reason: str
    first_shown: int


@dataclass(frozen=True)
class RanksMode:
    """
    Args:
        decide (`str`):
            `"ranks"` takes the model's overall ranks, `"criteria"` adds its ranks per criterion up.
    """

    decide: str
    template: ClassVar[str] = "ranks"

    def views(self, orders: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Which candidates each question shows, in the order shown."""
        return orders

    def variables(self, shown: int, rubric: Rubric) -> dict[str, Any]:
        """What the template needs beside prompt, rubric and images."""
        return {"n": shown, "k": len(rubric.criteria), "example": ", ".join(map(str, range(1, shown + 1)))}

    def request(self, messages: list[dict], shown: int, rubric: Rubric) -> ChatRequest:
        return ChatRequest(messages, json_schema=json_schema(ranks_reply(shown, len(rubric.criteria))))

    def read(self, answer: StoredAnswer, positions: tuple[int, ...], rubric: Rubric) -> RanksReading:
        """
        Read an answer about candidates shown at `positions`.

        Raises:
            [`ReplyError`]: when the reply is not what was asked for.
        """
        k = len(rubric.criteria)
        reply = parse_reply(answer.reply, ranks_reply(len(positions), k))
        if [c.criterion for c in reply.criteria] != list(range(1, k + 1)):
            raise ReplyError(f"`criteria` has to hold the criteria 1 to {k} in order, each once.")

        def by_candidate(ranks: list[int]) -> tuple[float, ...]:
            return tuple(float(ranks[positions.index(candidate)]) for candidate in range(len(positions)))

        return RanksReading(
            ranks=by_candidate(reply.ranks),
            criteria=tuple(by_candidate(c.ranks) for c in reply.criteria),
            reason=reply.reason,
            first_shown=positions[0],
        )

    def verdict(self, readings: list[RanksReading], rubric: Rubric) -> Verdict:
        """The verdict of all orders; what they disagree on is a tie."""
        overall = [r.ranks if self.decide == "ranks" else _ranks_from_criteria(r.criteria, rubric) for r in readings]
        winners = [best(ranks) for ranks in overall]
        ranks = agreed_ranks(overall)
        # ranks by points, in which what is void is level
        orders = [[mean_ranks(points) for points in points_of_ranks(r.criteria, rubric)] for r in readings]
        by_criterion = [[order[i] for order in orders] for i in range(len(rubric.criteria))]
        return Verdict(
            winner=best(ranks),
            ranks=ranks,
            consistent=consistent(overall),
            first_position=tuple(
                winner == r.first_shown for winner, r in zip(winners, readings, strict=True) if winner is not None
            ),
            criteria=tuple(
                CriterionResult(number, best(agreed_ranks(orders)), consistent(orders))
                for number, orders in enumerate(by_criterion, start=1)
            ),
            reason=readings[0].reason,
            candidates=len(ranks),
        )


@lru_cache(maxsize=64)
def ranks_reply(n: int, k: int) -> type[BaseModel]:
    """The reply that ranks `n` images under `k` criteria; findings stand before the verdict, so that they can help."""
    strict = ConfigDict(strict=True, extra="forbid")
    ranks = Annotated[list[Annotated[int, Field(ge=1, le=n)]], Field(min_length=n, max_length=n)]
    criterion = create_model(
        "CriterionRanks", __config__=strict, criterion=(Annotated[int, Field(ge=1, le=k)], ...), ranks=(ranks, ...)
    )
    return create_model(
        "Verdict",
        __config__=strict,
        criteria=(Annotated[list[criterion], Field(min_length=k, max_length=k)], ...),
        reason=(str, ...),
        ranks=(ranks, ...),
    )


def _ranks_from_criteria(criteria: tuple[tuple[float, ...], ...], rubric: Rubric) -> tuple[float, ...]:
    return mean_ranks(weighted_scores(points_of_ranks(criteria, rubric), rubric))
