"""How often the trained model beats its base, prompt by prompt, and how sure one can be of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..judges.aggregate import wilson_interval
from ..judges.verdict import Verdict


@dataclass(frozen=True)
class WinRate:
    """
    Outcome of comparing the trained model with its base on one picture each per prompt.

    Args:
        win_rate (`float`, *optional*):
            Share of prompts on which the trained model won, 0 to 1; a tie counts one half, a failed comparison is left
            out. `None` when no comparison succeeded.
        win_rate_ci (`tuple[float, float]`, *optional*):
            95% interval of `win_rate`; `None` when no comparison succeeded.
        tie_rate (`float`, *optional*):
            Share of ties among the comparisons that succeeded.
        failure_rate (`float`):
            Share of the prompts without an outcome.
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
    outcomes: list[float | None] = []
    for base, trained in rewards:
        if base is None or trained is None or math.isnan(base) or math.isnan(trained):
            outcomes.append(None)
        else:
            outcomes.append(0.5 if base == trained else float(trained > base))
    return _summary(outcomes)


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
    outcomes = [None if v.failure is not None else 0.5 if v.winner is None else float(v.winner) for v in verdicts]
    answered = [verdict.consistent for verdict in verdicts if verdict.consistent is not None]
    return _summary(outcomes, sum(answered) / len(answered) if answered else None)


def _summary(outcomes: list[float | None], order_consistency: float | None = None) -> WinRate:
    if not outcomes:
        raise ValueError("A win rate needs at least one prompt; the list of comparisons is empty.")
    judged = [outcome for outcome in outcomes if outcome is not None]
    rate = sum(judged) / len(judged) if judged else None
    return WinRate(
        win_rate=rate,
        win_rate_ci=None if rate is None else wilson_interval(rate, len(judged)),
        tie_rate=judged.count(0.5) / len(judged) if judged else None,
        failure_rate=1 - len(judged) / len(outcomes),
        prompts=len(outcomes),
        order_consistency=order_consistency,
    )
