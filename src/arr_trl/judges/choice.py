"""Choice: the judge names the better of two images in one token, and its log-probability says how sure it is."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..chat import ChatReply, ChatRequest
from ..rubrics import Rubric
from .aggregate import best, consistent, mean_ranks
from .parsing import ReplyError
from .store import StoredAnswer
from .verdict import Verdict


_CHOICES = ("1", "2")
# What a model would say among the two is no answer of it where it hardly ever says either.
LEAST_MASS = 0.01


@dataclass(frozen=True)
class ChoiceReading:
    """One answer: the probability of each candidate (not position) to be the better one, and which was shown first."""

    probabilities: tuple[float, float]
    first_shown: int


@dataclass(frozen=True)
class ChoiceMode:
    """
    Args:
        tie_margin (`float`):
            The difference of the two probabilities, averaged over the orders, up to which a pair is a tie.
        temperature (`float`, *optional*, defaults to `1.0`):
            What the log-odds are divided by before.
    """

    tie_margin: float
    temperature: float = 1.0
    template: ClassVar[str] = "choice"

    def views(self, orders: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        if len(orders[0]) != 2:
            raise ValueError(f"mode='choice' compares pairs, not {len(orders[0])} images; use mode='ranks' for more.")
        return orders

    def variables(self, shown: int, rubric: Rubric) -> dict[str, Any]:
        return {}

    def request(self, messages: list[dict], shown: int, rubric: Rubric) -> ChatRequest:
        return ChatRequest(messages, choices=_CHOICES)

    def read(self, answer: StoredAnswer | ChatReply, positions: tuple[int, ...], rubric: Rubric) -> ChoiceReading:
        logprobs = answer.choice_logprobs or {}
        if not logprobs:
            raise ReplyError(
                "Neither 1 nor 2 is among the likely first tokens of the reply; a model that thinks first, or says more "
                "than the number, is better asked in mode='ranks'."
            )
        mass = [math.exp(logprobs.get(choice, -math.inf)) for choice in _CHOICES]
        if sum(mass) < LEAST_MASS:
            raise ReplyError(
                f"The first token of the reply is 1 or 2 with a probability of {sum(mass):.2g} only, and a verdict needs "
                f"{LEAST_MASS:g}. A model that thinks first has to be told not to, for example by "
                '`extra_body={"chat_template_kwargs": {"enable_thinking": false}}`; another may do better in '
                "mode='ranks'."
            )
        mass = [(m / max(mass)) ** (1 / self.temperature) for m in mass]
        shares = [m / sum(mass) for m in mass]
        return ChoiceReading((shares[positions.index(0)], shares[positions.index(1)]), positions[0])

    def verdict(self, readings: list[ChoiceReading], rubric: Rubric) -> Verdict:
        """The mean over the orders decides: a preference for a position cancels, and what is left is the margin."""
        first, second = (sum(r.probabilities[i] for r in readings) / len(readings) for i in (0, 1))
        margin = abs(first - second)
        ranks = mean_ranks([first, second]) if margin > self.tie_margin else (1.5, 1.5)
        per_order = [mean_ranks(list(r.probabilities)) for r in readings]
        return Verdict(
            winner=best(ranks),
            ranks=ranks,
            margin=margin,
            consistent=consistent(per_order),
            first_position=tuple(
                best(order) == r.first_shown
                for order, r in zip(per_order, readings, strict=True)
                if best(order) is not None
            ),
        )
