"""From the readings of a preset's questions to scores, and from scores to a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from .aggregate import best, consistent, mean_ranks
from .combine import COMBINE, Part
from .preset import Ask, Preset
from .readers import NumbersReader, Reading
from .verdict import CriterionResult, Verdict


@dataclass(frozen=True)
class Opinion:
    """
    What all questions about one view say together.

    Args:
        scores (`tuple[float, ...]`): of each picture judged, on the preset's scale from 0 to 1.
        axes (`tuple[dict[str, float], ...]`): the numbers by name, as they were given.
        criteria (`tuple[int | None, ...]`): which of two pictures won each part of the answer.
    """

    scores: tuple[float, ...]
    axes: tuple[dict[str, float], ...]
    criteria: tuple[int | None, ...] = ()


def opinion(preset: Preset, combine: str, readings: list[tuple[Ask, Reading]]) -> Opinion:
    """The readings of all questions about one view, combined."""
    scores, axes = [], []
    for picture in range(len(readings[0][1].values)):
        parts = [
            Part(
                ask.name,
                reading.values[picture],
                ask.weight,
                (ask.read.low, ask.read.high) if isinstance(ask.read, NumbersReader) else None,
            )
            for ask, reading in readings
        ]
        raw = COMBINE[combine](parts)
        low, high = preset.scale or (0.0, 1.0)
        scores.append((raw - low) / (high - low))
        by_name: dict[str, list[float]] = {}
        for part in parts:
            for name, value in part.values.items():
                by_name.setdefault(name, []).append(value)
        axes.append({name: fmean(values) for name, values in by_name.items()})
    return Opinion(tuple(scores), tuple(axes), readings[0][1].criteria)


@dataclass
class Score:
    """A candidate's score so far: `values` are those of each opinion, `problem` why one is missing."""

    values: list[float] = field(default_factory=list)
    axes: list[dict[str, float]] = field(default_factory=list)
    problem: str | None = None

    @property
    def mean(self) -> float:
        return fmean(self.values) if self.values else math.nan


def scored(scores: Sequence[Score], tie_margin: float, reason: str) -> Verdict:
    """
    The verdict on candidates that were scored each for itself. The score is the reward; candidates whose scores differ by
    `tie_margin` at most are level in the ranks. Where fewer than two of several have a score, nothing was compared.
    """
    n = len(scores)
    values = tuple(score.mean for score in scores)
    known = [value for value in values if not math.isnan(value)]
    axes = _by_name([score.axes for score in scores])
    if len(known) < min(2, n):
        problem = next(score.problem for score in scores if not score.values)
        return Verdict(failure=problem, scores=values if known else None, candidates=n, axes=axes)
    # how many of the others each beats by more than the margin
    points = [
        sum(0.5 if abs(value - other) <= tie_margin else float(value > other) for other in known) for value in known
    ]
    among = iter(mean_ranks(points))
    ranks = tuple(math.nan if math.isnan(value) else next(among) for value in values)
    first, *rest = sorted(known, reverse=True)
    return Verdict(
        winner=best(tuple(math.inf if math.isnan(rank) else rank for rank in ranks)),
        ranks=ranks,
        scores=values,
        margin=first - rest[0] if rest else None,
        reason=reason,
        candidates=n,
        axes=axes,
    )


def compared(
    passes: list[list[tuple[tuple[int, int], Opinion]]], pair: tuple[int, int], tie_margin: float, reason: str
) -> Verdict:
    """
    The verdict on a pair: the mean over passes and orders of how far the first is ahead. A preference for a position
    cancels; judges that name a winner and no lead win where both orders say so, with the margin of .5 that they have.

    Args:
        passes (`list`): for each pass that was answered, the candidates in each order shown, and the opinion on them.
        pair (`tuple[int, int]`): the candidates.
        tie_margin (`float`): lead up to which they are level.
        reason (`str`): the judge's words.
    """
    leads, orders, first_shown, criteria = [], [], [], []
    axes: tuple[list[dict[str, float]], ...] = ([], [])
    for shown, said in (order for orders_of_pass in passes for order in orders_of_pass):
        place = shown.index(pair[0])
        lead = said.scores[place] - said.scores[1 - place]
        leads.append(lead)
        orders.append(mean_ranks([lead, 0.0]))
        if lead:
            first_shown.append((lead > 0) == (place == 0))
        criteria.append([None if won is None else int(won != place) for won in said.criteria])
        axes[0].append(said.axes[place])
        axes[1].append(said.axes[1 - place])
    lead = fmean(leads)
    ranks = (1.5, 1.5) if abs(lead) <= tie_margin else mean_ranks([lead, 0.0])
    return Verdict(
        winner=best(ranks),
        ranks=ranks,
        margin=abs(lead),
        consistent=consistent(orders),
        first_position=tuple(first_shown),
        criteria=tuple(
            CriterionResult(
                number, won[0] if len(set(won)) == 1 else None, len(set(won)) == 1 if len(won) > 1 else None
            )
            for number, won in enumerate(zip(*criteria, strict=False), start=1)
        ),
        reason=reason,
        axes=_by_name(axes),
    )


def _by_name(axes: Sequence[list[dict[str, float]]]) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Of what was said of each candidate the mean by name, NaN where nothing was."""
    names = dict.fromkeys(name for of_candidate in axes for said in of_candidate for name in said)
    values = {name: [[said[name] for said in of_candidate if name in said] for of_candidate in axes] for name in names}
    return tuple((name, tuple(fmean(v) if v else math.nan for v in by)) for name, by in values.items())
