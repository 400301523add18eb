"""What is known of every comparison and every picture of an evaluation, before anything is averaged."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ..judges import Verdict
from .win_rate import outcome_of


BASE = "base"  # the name of the model without an adapter


@dataclass(frozen=True)
class PairRecord:
    """
    Two models' pictures of one prompt from the same noise, and what was said of them. A line of `pairs.jsonl`.

    Args:
        prompt (`int`): row of the dataset.
        image (`int`): which of the prompt's pictures.
        models (`tuple[str, str]`): the first and the second.
        winner (`int`, *optional*): 0 or 1; `None` for a tie and for a failure.
        failure (`str`, *optional*): why there is no verdict.
        consistent (`bool`, *optional*): whether both orders named the same winner.
        margin (`float`, *optional*): how clear it was, -1 for the first to 1 for the second.
        reason (`str`): the judge's words, in the order first, second.
        reason_reversed (`str`): its words when the second was shown first.
        orders (`tuple[int | None, ...]`): the winner in each order, where it was asked in both.
        criteria (`tuple[tuple[int, int | None], ...]`): number of each criterion and its winner.
        rewards (`dict[str, tuple[float | None, float | None]]`): of further reward functions.
    """

    prompt: int
    image: int
    models: tuple[str, str]
    winner: int | None = None
    failure: str | None = None
    consistent: bool | None = None
    margin: float | None = None
    reason: str = ""
    reason_reversed: str = ""
    orders: tuple[int | None, ...] = ()
    criteria: tuple[tuple[int, int | None], ...] = ()
    rewards: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)

    @property
    def outcome(self) -> float:
        """1 when the second won, 0 when the first did, .5 for a tie, NaN for a failure."""
        return outcome_of(self.winner, self.failure)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class PictureRecord:
    """
    One picture.

    Args:
        prompt (`int`): row of the dataset.
        image (`int`): which of the prompt's pictures.
        model (`str`): who drew it.
        drift (`float`, *optional*): mean absolute pixel difference from the base's picture of the same noise, 0 to 1.
        diversity (`float`, *optional*): mean difference within the prompt; with its first picture only.
        rewards (`dict[str, float | None]`): of further reward functions.
        checks (`dict[str, bool]`): of the ground truths.
    """

    prompt: int
    image: int
    model: str
    drift: float | None = None
    diversity: float | None = None
    rewards: dict[str, float | None] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)


def pair_record(
    place: tuple[int, int],
    models: tuple[str, str],
    verdict: Verdict | None,
    forward: Verdict | None,
    reversed_: Verdict | None,
    rewards: dict[str, tuple[float | None, float | None]],
) -> PairRecord:
    """
    A record from the judge's verdicts.

    Args:
        place (`tuple[int, int]`): prompt and picture.
        models (`tuple[str, str]`): who drew the candidates.
        verdict ([`Verdict`], *optional*): of both orders; `None` without a judge.
        forward ([`Verdict`], *optional*): of the first order alone, where there are two.
        reversed_ ([`Verdict`], *optional*): of the second, on the candidates `[second, first]`.
        rewards (`dict`): of further reward functions.
    """
    if verdict is None:
        return PairRecord(*place, models, failure="No judge was asked.", rewards=rewards)
    orders: tuple[int | None, ...] = ()
    if forward is not None and reversed_ is not None:
        orders = (forward.winner, None if reversed_.winner is None else 1 - reversed_.winner)
    return PairRecord(
        *place,
        models,
        winner=verdict.winner,
        failure=verdict.failure,
        consistent=verdict.consistent,
        margin=_signed_margin(verdict),
        reason=verdict.reason,
        reason_reversed=reversed_.reason if reversed_ is not None else "",
        orders=orders,
        criteria=tuple((found.criterion, found.winner) for found in verdict.criteria),
        rewards=rewards,
    )


def _signed_margin(verdict: Verdict) -> float | None:
    """How clear it was, and for which; where that is not known, the decision alone."""
    if verdict.failure is not None:
        return None
    side = {0: -1, 1: 1, None: 0}[verdict.winner]
    return side * (1.0 if verdict.clearness is None else verdict.clearness)
