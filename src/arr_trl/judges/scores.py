"""From scores to a verdict."""

import math

from .aggregate import best, mean_ranks
from .verdict import Verdict


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
    among = iter(mean_ranks(known))
    ranks = tuple(math.nan if score is None else next(among) for score in scores)
    first, *others = sorted(known, reverse=True)
    lead = first - others[0] if others else None
    is_led = lead is None or lead > tie_margin
    winner = best(tuple(math.inf if math.isnan(rank) else rank for rank in ranks)) if is_led else None
    return Verdict(
        winner=winner,
        ranks=ranks,
        scores=tuple(math.nan if score is None else score for score in scores),
        margin=lead,
        candidates=len(scores),
    )
