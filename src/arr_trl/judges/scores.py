"""From scores to a verdict."""

import math
from collections.abc import Sequence
from statistics import fmean, pstdev

from .aggregate import best, mean_ranks
from .verdict import Verdict


_LEVEL = 1e-6  # of the largest score: differences below come from rounding


def z_scores(scores: Sequence[float]) -> list[float]:
    """
    Scores less their mean, in standard deviations (of the population); 0 each where they are level.

    Args:
        scores (`Sequence[float]`): of the candidates of one prompt.
    """
    mean, std = fmean(scores), pstdev(scores)
    if std <= _LEVEL * max(map(abs, scores)):
        return [0.0] * len(scores)
    return [(score - mean) / std for score in scores]


def score_verdict(scores: list[float | None], tie_margin: float, name: str) -> Verdict:
    """
    The verdict of what scored each candidate.

    Args:
        scores (`list[float]`): of each candidate, `None` where there is none.
        tie_margin (`float`): the lead up to which the best are level.
        name (`str`): what scored, for the sentence of a failure.
    """
    known = [score for score in scores if score is not None]
    if not known:
        return Verdict(failure=f"{name} has no score for any of the candidates.", candidates=len(scores))
    first, *others = sorted(known, reverse=True)
    # those within the margin of the best are level with it
    among = iter(mean_ranks([first if first - score <= tie_margin else score for score in known]))
    ranks = tuple(math.nan if score is None else next(among) for score in scores)
    lead = first - others[0] if others else None
    return Verdict(
        winner=best(tuple(math.inf if math.isnan(rank) else rank for rank in ranks)),
        ranks=ranks,
        scores=tuple(math.nan if score is None else score for score in scores),
        margin=lead,
        candidates=len(scores),
    )
