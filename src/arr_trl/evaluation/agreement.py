"""How far a judge and people agree: beyond chance, within a band that counts as level, and in the order of several."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr


def cohen_kappa(judge: Sequence[Any], human: Sequence[Any]) -> float | None:
    """
    Cohen's κ of two raters: 1 where they always agree, 0 where they agree as often as chance has it.

    Args:
        judge (`Sequence`): what one says of each thing.
        human (`Sequence`): what the other says of it.

    Returns:
        `float`: κ; `None` where it is not defined, since both always say the same one thing, or there is nothing.
    """
    classes = sorted({*judge, *human}, key=str)
    counts = np.zeros((len(classes), len(classes)))
    for said, label in zip(judge, human, strict=True):
        counts[classes.index(said), classes.index(label)] += 1
    kappa = kappa_of_counts(counts)
    return None if np.isnan(kappa) else float(kappa)


def kappa_of_counts(counts_CC: np.ndarray) -> np.ndarray:
    """κ of how often the two raters said what, `[..., C, C]`; NaN where it is not defined."""
    total = counts_CC.sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        agreed = np.trace(counts_CC, axis1=-2, axis2=-1) / total
        by_chance = (counts_CC.sum(-1) * counts_CC.sum(-2)).sum(-1) / total**2
        return np.where(by_chance < 1, (agreed - by_chance) / (1 - by_chance), np.nan)


def fit_tie_threshold(differences: Sequence[float], labels: Sequence[int]) -> tuple[float, float]:
    """
    The difference of scores up to which a pair should be called level.

    Args:
        differences (`Sequence[float]`): score of the first image less that of the second.
        labels (`Sequence[int]`): what people said: 1 for the first, -1 for the second, 0 for level.

    Returns:
        `tuple(float, float)`: the smallest threshold with which most labels are met, and the share of those; it is
        meant for pairs other than these, since on these it is the best there is.

    Raises:
        `ValueError`: when there is nothing to fit it on.
    """
    if not len(differences):
        raise ValueError("There are no differences to fit a band of ties on.")
    sizes, labels = np.abs(differences), np.asarray(labels)
    named = np.sign(differences) == labels  # right where it is outside of the band, as 0 never is
    candidates = np.unique([0.0, *sizes])
    order = np.argsort(sizes)
    within = np.searchsorted(sizes[order], candidates, side="right")  # how many each band holds
    level = np.concatenate([[0], np.cumsum(labels[order] == 0)])
    outside = np.concatenate([[0], np.cumsum(named[order])])
    met = level[within] + outside[-1] - outside[within]
    best = int(met.argmax())  # the smallest of those
    return float(candidates[best]), float(met[best] / len(labels))


def tie_threshold_accuracy(differences: Sequence[float], labels: Sequence[int], threshold: float) -> float:
    """Share of the labels that differences meet when those up to `threshold` are level; see [`fit_tie_threshold`]."""
    met = [within_band(d, threshold) == label for d, label in zip(differences, labels, strict=True)]
    return sum(met) / len(met)


def within_band(difference: float, threshold: float) -> int:
    """1 for the first, -1 for the second, 0 for level."""
    return 0 if abs(difference) <= threshold else int(math.copysign(1, difference))


def ranking_measures(true_ranks: Sequence[float], found_ranks: Sequence[float]) -> dict[str, float | None]:
    """
    How near a ranking is to the true one.

    Args:
        true_ranks (`Sequence[float]`): rank of each item, 1 for the best, in the order in which the items are numbered.
        found_ranks (`Sequence[float]`): the same as it was found; level items share the mean of their ranks.

    Returns:
        `dict[str, float]`: `kendall` (τ-b) and `spearman` of the ranks, `None` where one of the rankings is level
        throughout; and as ConsistencyRank's own code has them `position_accuracy`, `footrule_distance`, `top1`, `bottom1`,
        `kendall_official` and `spearman_official`. The last two correlate the two lists of item numbers, best first,
        position by position, so that they depend on how the items happen to be numbered: compare them with published
        figures only.
    """
    true, found = _best_first(true_ranks), _best_first(found_ranks)
    places = {item: place for place, item in enumerate(true)}
    return {
        "kendall": _correlation(kendalltau, true_ranks, found_ranks),
        "spearman": _correlation(spearmanr, true_ranks, found_ranks),
        "kendall_official": _correlation(kendalltau, found, true),
        "spearman_official": _correlation(spearmanr, found, true),
        "position_accuracy": sum(a == b for a, b in zip(found, true, strict=True)) / len(true),
        "footrule_distance": float(sum(abs(places[item] - place) for place, item in enumerate(found))),
        "top1": float(found[0] == true[0]),
        "bottom1": float(found[-1] == true[-1]),
    }


def _best_first(ranks: Sequence[float]) -> list[int]:
    """Numbers of the items; of level ones the last comes first, as where scores are sorted and turned round."""
    return np.argsort(-np.asarray(ranks), kind="stable")[::-1].tolist()


def _correlation(correlate: Any, one: Sequence[float], other: Sequence[float]) -> float | None:
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return float(correlate(one, other).statistic)
