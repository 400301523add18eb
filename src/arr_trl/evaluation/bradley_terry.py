"""A ranking of several models from comparisons of two at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..intervals import resampled_sums


_ITERATIONS = 200
_RESAMPLES = 500


@dataclass(frozen=True)
class Strength:
    """
    Where a model stands.

    Args:
        model (`str`): its name.
        strength (`float`): log-odds of beating the first model, which has 0.
        strength_ci (`tuple[float, float]`): 95% interval, whole prompts resampled.
        beats_first (`float`): the probability that goes with `strength`, 0 to 1.
    """

    model: str
    strength: float
    strength_ci: tuple[float, float]
    beats_first: float


def bradley_terry(
    models: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    outcomes: Sequence[float],
    clusters: Sequence[int],
    seed: int = 0,
) -> list[Strength]:
    """
    Fit the Bradley-Terry model, in which i beats j with probability p_i / (p_i + p_j); a tie counts one half for each.

    One tie is added to every two models that were compared, so that strengths stay finite when one never loses.

    Args:
        models (`Sequence[str]`): names; the first has strength 0.
        pairs (`Sequence[tuple[str, str]]`): the two models of each comparison.
        outcomes (`Sequence[float]`): 1 when the second won, 0 when the first did, .5 for a tie, NaN for no verdict.
        clusters (`Sequence[int]`): the prompt of each comparison.
        seed (`int`, *optional*, defaults to `0`): seed of the resampling.

    Returns:
        `list[Strength]`: the strongest first.

    Raises:
        `ValueError`: when there is no outcome at all.
    """
    outcomes = np.asarray(outcomes, dtype=float)
    known = np.flatnonzero(~np.isnan(outcomes))
    if len(known) == 0:
        raise ValueError("A ranking needs at least one comparison with a verdict; there is none.")
    _, prompt = np.unique(np.asarray(clusters)[known], return_inverse=True)
    place = {name: number for number, name in enumerate(models)}
    m = len(models)
    wins = np.zeros((prompt.max() + 1, m, m))  # per prompt, how often the row's model beat the column's
    for cluster, comparison in zip(prompt, known, strict=True):
        first, second = (place[name] for name in pairs[comparison])
        wins[cluster, second, first] += outcomes[comparison]
        wins[cluster, first, second] += 1 - outcomes[comparison]
    total = wins.sum(0)
    compared = total + total.T > 0
    resampled = _fit(resampled_sums(_with_imaginary(wins, compared), _RESAMPLES, seed) + compared / 2)
    fitted = _fit(total[None] + compared / 2)[0]
    ends = np.percentile(resampled, [2.5, 97.5], axis=0)
    ranking = [
        Strength(name, float(s), (float(low), float(high)), float(1 / (1 + np.exp(-s))))
        for name, s, low, high in zip(models, fitted, *ends, strict=True)
    ]
    return sorted(ranking, key=lambda found: -found.strength)


def _with_imaginary(wins_CMM: np.ndarray, compared_MM: np.ndarray) -> np.ndarray:
    """
    The prompts, and for every two models one that each won: what was always won alike has an interval then, as in
    [`~arr_trl.intervals.ratio_interval`].
    """
    share = wins_CMM.sum(0) + wins_CMM.sum(0).T
    first, second = np.nonzero(compared_MM)
    imaginary = np.zeros((len(first), *compared_MM.shape))
    imaginary[np.arange(len(first)), first, second] = share[first, second] / len(wins_CMM)
    return np.concatenate([wins_CMM, imaginary])


def _fit(wins_RMM: np.ndarray) -> np.ndarray:
    """Log-strengths `[R, M]` with the first at 0, by the iteration of Hunter (2004)."""
    games = wins_RMM + wins_RMM.transpose(0, 2, 1)
    won = wins_RMM.sum(2)
    p = np.ones_like(won)
    for _ in range(_ITERATIONS):
        p = won / (games / (p[:, :, None] + p[:, None, :])).sum(2)
        p /= p[:, :1]
    return np.log(p)
