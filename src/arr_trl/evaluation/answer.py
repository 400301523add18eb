"""What an evaluation says, in a sentence for each comparison: who is better, how sure that is, how many more prompts would tell."""

import math
from typing import Any

from .records import BASE
from .results import percent
from .summary import Evaluation


_FAR = 10_000  # prompts beyond which a number says no more than that they are many


def answers(evaluation: Evaluation) -> list[str]:
    """
    A sentence for each adapter against its base, then for each two adapters; with ground truths, another for each adapter.
    """
    found = sorted(evaluation.comparisons, key=lambda c: c["models"][0] != BASE)
    told = [_by_the_judge(c, evaluation.prompts) for c in found if evaluation.judge is not None]
    told += [_by_reward(name, rate, c, evaluation.prompts) for c in found for name, rate in _rewards(evaluation, c)]
    told += [_by_the_truth(c) for c in found if c["models"][0] == BASE and "success_all" in c]
    return told or ["Only one model was drawn, so that there is nothing to compare."]


def more_prompts(rate: float, interval: tuple[float, float], prompts: int) -> int | None:
    """
    How many more prompts would show a difference, if the rate stays what it is: until its Wilson interval leaves one half.

    Args:
        rate (`float`): the rate, 0 to 1.
        interval (`tuple[float, float]`): its 95% interval, as [`rate_interval`] gives it.
        prompts (`int`): how many prompts there were.

    Returns:
        `int`: two digits of it; `None` where the rate is one half, and where they would be more than 10,000.
    """
    low, high = interval
    # the interval's ends p solve (rate - p)² = z² p (1 - p) / n, which is told of one that is not cut off at 0 or 1
    end = low if low > 0 else high
    spread = (rate - end) ** 2 / (end * (1 - end))  # z² / n
    lead = (rate - 0.5) ** 2 / 0.25
    if lead * _FAR < spread:  # one half, or nearly
        return None
    more = max(1, math.ceil(prompts * (spread / lead - 1)))
    digits = 10 ** max(0, len(str(more)) - 2)
    more = math.ceil(more / digits) * digits
    return more if more <= _FAR else None


def shown_rate(rate: float, interval: tuple[float, float] | None) -> str:
    """A rate and its interval inside a sentence."""
    return f"{100 * rate:.0f}%" + (f" ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})" if interval else "")


def _by_the_judge(found: dict[str, Any], prompts: int) -> str:
    if found["win_rate"] is None:
        return f"The judge gave no verdict on any pair of {' and '.join(found['models'])}, so that nothing is known."
    return _compared(found["models"], found["win_rate"], found["win_rate_ci"], prompts, "the judge prefers it in")


def _by_reward(name: str, rate: dict[str, Any], found: dict[str, Any], prompts: int) -> str:
    said = _compared(found["models"], rate["win_rate"], rate["win_rate_ci"], prompts, "it has more in")
    return f"By {name}: {said}"


def _rewards(evaluation: Evaluation, found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Reward functions speak where no judge does."""
    if evaluation.judge is not None:
        return []
    return [(name, rate) for name, rate in found["rewards"].items() if rate["win_rate"] is not None]


def _compared(models: list[str], rate: float, interval: tuple[float, float] | None, prompts: int, how: str) -> str:
    first, second = models
    other = "its base" if first == BASE else first
    on = f"{prompts:,} prompt{'s' if prompts != 1 else ''}"
    these = "these " + on if prompts != 1 else "this prompt"
    if interval is not None and (interval[0] > 0.5 or interval[1] < 0.5):
        word = "better" if rate > 0.5 else "worse"
        return f"{second} is {word} than {other} on {these}: {how} {shown_rate(rate, interval)}."
    shown = shown_rate(rate, interval)
    more = None if interval is None else more_prompts(rate, interval, prompts)
    would = "" if more is None else f"; about {more:,} more would, if that stays"
    verb = "show" if prompts != 1 else "shows"
    return f"{these[0].upper()}{these[1:]} {verb} no difference between {second} and {other}: {shown}{would}."


def _by_the_truth(found: dict[str, Any]) -> str:
    rate, second = found["success_all"], found["models"][1]
    low, high = (100 * end for end in rate["difference_ci"])
    return (
        f"All criteria are met by {percent(rate['second'])} of the pictures of {second}, {percent(rate['first'])} of its "
        f"base: {100 * rate['difference']:+.1f} points ({low:+.0f} to {high:+.0f})."
    )
