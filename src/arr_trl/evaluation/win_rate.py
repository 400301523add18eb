"""How often one model beats another, and how sure one can be of it: for a run, a command and a card alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..intervals import rate_interval
from ..judges.verdict import Verdict


@dataclass(frozen=True)
class WinRate:
    """
    Outcome of comparing a model with another, such as the trained one with its base, on pictures of the same noise.

    Args:
        win_rate (`float`, *optional*):
            Share of the comparisons that the model won, 0 to 1; a tie counts one half, a failed comparison is left out.
            `None` when no comparison succeeded.
        win_rate_ci (`tuple[float, float]`, *optional*):
            95% interval of `win_rate` whose outcomes belong to prompts; see [`rate_interval`]. `None` when no
            comparison succeeded.
        tie_rate (`float`, *optional*):
            Share of ties among the comparisons that succeeded.
        failure_rate (`float`):
            Share of the comparisons without an outcome.
        prompts (`int`):
            Number of prompts compared, failures included.
        order_consistency (`float`, *optional*):
            Share of the comparisons asked in both orders that named the same winner twice; `None` when no verdict
            tells.
    """

    win_rate: float | None
    win_rate_ci: tuple[float, float] | None
    tie_rate: float | None
    failure_rate: float
    prompts: int
    order_consistency: float | None = None


def win_rate(
    outcomes: Sequence[float],
    prompts: Sequence[int] | None = None,
    consistent: Sequence[bool | None] = (),
) -> WinRate:
    """
    Add up comparisons.

    Args:
        outcomes (`Sequence[float]`):
            One per comparison: 1 when the model won, 0 when the other did, .5 for a tie, NaN for a failure.
        prompts (`Sequence[int]`, *optional*):
            The prompt of each comparison. Unset, each has a prompt of its own.
        consistent (`Sequence[bool | None]`, *optional*):
            Of each comparison, whether both orders named the same winner; `None` where it was not asked in both.

    Returns:
        [`WinRate`]

    Raises:
        `ValueError`: when there are no comparisons.
    """
    if not outcomes:
        raise ValueError("A win rate needs at least one prompt; the list of comparisons is empty.")
    prompts = range(len(outcomes)) if prompts is None else prompts
    judged = [outcome for outcome in outcomes if not math.isnan(outcome)]
    answered = [both for both in consistent if both is not None]
    return WinRate(
        win_rate=sum(judged) / len(judged) if judged else None,
        win_rate_ci=rate_interval(outcomes, prompts),
        tie_rate=judged.count(0.5) / len(judged) if judged else None,
        failure_rate=(len(outcomes) - len(judged)) / len(outcomes),
        prompts=len(set(prompts)),
        order_consistency=sum(answered) / len(answered) if answered else None,
    )


def outcome_of(winner: int | None, failure: str | None = None) -> float:
    """1 when the second candidate won, 0 when the first did, .5 for a tie, NaN for a failure."""
    if failure is not None:
        return math.nan
    return 0.5 if winner is None else float(winner)


def outcome_of_rewards(first: float | None, second: float | None) -> float:
    """1 when the second reward is the higher one, 0 when the first is, .5 when they are equal, NaN when one is missing."""
    if first is None or second is None or math.isnan(first) or math.isnan(second):
        return math.nan
    return 0.5 if first == second else float(second > first)


def win_rate_from_rewards(rewards: Sequence[tuple[float | None, float | None]]) -> WinRate:
    """
    Win rate of the trained model from scalar rewards.

    Args:
        rewards (`Sequence[tuple[float, float]]`):
            `(base, trained)` per prompt; `None` or NaN is a failed judgement.

    Returns:
        [`WinRate`]

    Raises:
        `ValueError`: when there are no prompts.
    """
    return win_rate([outcome_of_rewards(base, trained) for base, trained in rewards])


def win_rate_from_verdicts(verdicts: Sequence[Verdict]) -> WinRate:
    """
    Win rate of the trained model from a judge's verdicts, which tell a tie from a failure.

    Args:
        verdicts (`Sequence[Verdict]`):
            One verdict per prompt on the candidates `[base, trained]`, in this order.

    Returns:
        [`WinRate`]

    Raises:
        `ValueError`: when there are no verdicts.
    """
    outcomes = [outcome_of(verdict.winner, verdict.failure) for verdict in verdicts]
    return win_rate(outcomes, consistent=[verdict.consistent for verdict in verdicts])
