"""A judge fitted to labelled pairs: on one half of the prompts, and measured on the other."""

import hashlib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from ..data.preferences import Preference
from ..intervals import wilson_interval
from ..judges import JudgeReward, JudgeRow, Verdict
from ..judges.calibration import Calibration, identity
from .agreement import cohen_kappa, fit_tie_threshold, within_band
from .judge_eval import pairs_for


_CHUNK = 64  # pairs in memory at once
_SUREST = 1 - 1e-12  # a lead of 1 would have log-odds without bound
_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Judged:
    """
    What a judge said of a labelled pair.

    Args:
        prompt (`str`): its prompt.
        label (`int`): 1 where people preferred the first image, -1 the second, 0 neither.
        leads (`tuple[float, float]`, *optional*):
            By how much the first image is ahead, in the order of the data and in the other; `None` without an answer.
        is_probability (`bool`): whether a lead is a difference of probabilities.
    """

    prompt: str
    label: int
    leads: tuple[float, float] | None
    is_probability: bool


def calibrate(
    judge: JudgeReward, pairs: Iterable[Preference | str], limit: int | None = None, tie_margin: float = 0.05
) -> Calibration:
    """
    Fit a temperature and a band of ties for a judge that has margins, on the pairs of one half of the prompts.

    The temperature is the one under which the labels of pairs with a winner are likeliest; a judge of scores, whose leads
    are no probabilities, has none. The band is the smallest one under which most labels, ties among them, are met. Without
    labelled ties it is empty.

    Args:
        judge ([`JudgeReward`]): the judge, in one order, since both are asked here.
        pairs (`Iterable[Preference | str]`): labelled pairs, ties among them where there are any.
        limit (`int`, *optional*): how many pairs to take; all by default.
        tie_margin (`float`, *optional*, defaults to `0.05`): the band it had before, to compare with.

    Returns:
        [`~arr_trl.judges.Calibration`]: with what it is worth on the other half, as [`measured`] has it, under
        `calibrated` and `before`.

    Raises:
        `ValueError`: when the judge has no margins, or there are pairs of fewer than two prompts.
    """
    judged = list(itertools.islice(_ask(judge.untied(), pairs), limit))
    fitted_on, held_out = halves(judged)
    known = [j for j in fitted_on if j.leads is not None]
    if not known:
        raise ValueError(
            "The judge gave no margin on any pair that it would be fitted on; a judge with judge_mode=choice has margins, "
            "from the log-probabilities of its server, and so has a preset that scores each picture."
        )
    temperature = fit_temperature(known) if known[0].is_probability else 1.0
    band, _ = fit_tie_threshold([lead_at(j, temperature) for j in known], [j.label for j in known])
    return Calibration(
        tie_margin=band,
        temperature=temperature,
        fitted_for=identity(judge),
        measured={
            "pairs_fitted_on": len(fitted_on),
            "pairs": len(held_out),
            "calibrated": measured(held_out, temperature, band),
            "before": measured(held_out, 1.0, tie_margin),
        },
    )


def _ask(judge: JudgeReward, pairs: Iterable[Preference | str]) -> Iterable[Judged]:
    usable = (pair for pair in pairs_for([*judge.rubrics, *judge.presets], pairs) if isinstance(pair, Preference))
    while chunk := list(itertools.islice(usable, _CHUNK)):
        rows = [JudgeRow.of(pair) for pair in chunk]
        swapped = [JudgeRow.of(pair, swapped=True) for pair in chunk]
        verdicts, _ = judge.submit(rows + swapped).result()
        for pair, forward, reversed_ in zip(chunk, verdicts[: len(chunk)], verdicts[len(chunk) :], strict=True):
            yield _judged(pair, forward, reversed_)


def _judged(pair: Preference, forward: Verdict, reversed_: Verdict) -> Judged:
    leads = forward.lead, reversed_.lead
    label = {0: 1, 1: -1, None: 0}[pair.winner]
    return Judged(pair.prompt, label, None if None in leads else (leads[0], -leads[1]), forward.scores is None)


def halves(judged: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    """
    The pairs of every other prompt and the rest, so that no prompt is in both. The order of the data does not matter.

    Raises:
        `ValueError`: when there is one prompt alone.
    """
    prompts = sorted({j.prompt for j in judged}, key=lambda prompt: hashlib.sha256(prompt.encode()).digest())
    if len(prompts) < 2:
        raise ValueError(
            f"There are labelled pairs of {len(prompts)} prompts; a judge is fitted on some prompts and measured on others."
        )
    first = set(prompts[::2])
    return [j for j in judged if j.prompt in first], [j for j in judged if j.prompt not in first]


def fit_temperature(judged: Sequence[Judged]) -> float:
    """The temperature under which the winners of the labels are likeliest, within .05 and 20; 1 without any."""
    decided = [j for j in judged if j.label != 0 and j.leads is not None]
    if not decided:
        return 1.0
    odds = np.array([[_log_odds(lead) for lead in j.leads] for j in decided])
    labels = np.array([j.label for j in decided])

    def unlikelihood(log_temperature: float) -> float:
        first = expit(odds / math.exp(log_temperature)).mean(1)
        return -np.log(np.where(labels > 0, first, 1 - first).clip(1e-12)).mean()

    found = minimize_scalar(unlikelihood, bounds=tuple(map(math.log, _TEMPERATURES)), method="bounded")
    return float(math.exp(found.x))


def lead_at(judged: Judged, temperature: float) -> float:
    """By how much the first image is ahead at a temperature, the mean of both orders."""
    if not judged.is_probability:
        return sum(judged.leads) / 2
    return float(np.mean([math.tanh(_log_odds(lead) / (2 * temperature)) for lead in judged.leads]))


def _log_odds(lead: float) -> float:
    return 2 * math.atanh(max(-_SUREST, min(_SUREST, lead)))


def measured(judged: Sequence[Judged], temperature: float, tie_margin: float) -> dict[str, Any]:
    """
    What a judge is worth.

    Args:
        judged (`Sequence[Judged]`): what it said of pairs.
        temperature (`float`): what its log-odds are divided by.
        tie_margin (`float`): the lead up to which it says that a pair is level.

    Returns:
        `dict[str, Any]`: `coverage`, the share of pairs of which it names a winner; `accuracy`, the share of those with a
        labelled winner of which it is the right one; both with their 95% interval (Wilson); `kappa`, Cohen's κ with the
        labels over what was answered, ties included; `log_loss`, of the labelled winners, of a judge that has
        probabilities. `None` where nothing could be measured.
    """
    answered = [(j, lead_at(j, temperature)) for j in judged if j.leads is not None]
    said = [(within_band(lead, tie_margin), j.label) for j, lead in answered]
    named = [(one, label) for one, label in said if one != 0]
    right = [one == label for one, label in named if label != 0]
    likely = [(1 + lead * j.label) / 2 for j, lead in answered if j.label != 0 and j.is_probability]
    found: dict[str, Any] = {}
    for name, count, of in (("coverage", len(named), len(judged)), ("accuracy", sum(right), len(right))):
        found[name] = count / of if of else None
        found[f"{name}_ci"] = list(wilson_interval(count / of, of)) if of else None
    found["kappa"] = cohen_kappa(*zip(*said, strict=True)) if said else None
    found["log_loss"] = -float(np.mean(np.log(np.clip(likely, 1e-12, None)))) if likely else None
    return found
