"""
95% intervals, and a test of pairs. Of every rate by Wilson's formula with as many outcomes as the prompts are worth, which is wide where all
outcomes are alike; of means without bounds by resampling what belongs together.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


_RESAMPLES = 2000
_BLOCK = 100  # resamples drawn at a time, which bounds the memory


def resampled_sums(values_CX: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """
    What clusters add up to when as many as there are get drawn with replacement, again and again.

    Args:
        values_CX (`np.ndarray`): what each of `C` clusters adds, of any further shape.
        resamples (`int`): how often they are drawn.
        seed (`int`, *optional*, defaults to `0`): seed of the drawing.

    Returns:
        `np.ndarray`: the sums, `[resamples, ...]`.
    """
    clusters = len(values_CX)
    rng = np.random.default_rng(seed)
    # how often each cluster is drawn, times what it adds: sums without copying
    sums = [
        rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=min(_BLOCK, resamples - start))
        @ values_CX.reshape(clusters, -1)
        for start in range(0, resamples, _BLOCK)
    ]
    return np.concatenate(sums).reshape(-1, *values_CX.shape[1:])


def bootstrap_interval(
    values: Sequence[float], clusters: Sequence[int] | None = None, seed: int = 0
) -> tuple[float, float] | None:
    """
    95% bootstrap interval of a mean.

    Pictures of one prompt are alike, and an interval that takes them for independent is too narrow. With `clusters`
    whole prompts are drawn, so that what belongs together stays together. The percentiles are widened as Student's t is
    wider than the normal distribution ([Hesterberg 2015](https://doi.org/10.1080/00031305.2015.1089789)), because plain
    ones are too narrow on few clusters. Resampling knows nothing of what was not seen: it is not for rates, which have
    [`rate_interval`], and where nothing varies there is no interval. The order of the values says nothing, so that it does
    not matter how many processes found them.

    Args:
        values (`Sequence[float]`): one number per comparison; NaN where there is none.
        clusters (`Sequence[int]`, *optional*): which prompt each belongs to. Unset, each stands for itself.
        seed (`int`, *optional*, defaults to `0`): seed of the resampling.

    Returns:
        `tuple(float, float)`: lower and upper end; `None` without any value, and where all clusters are alike.
    """
    values = np.asarray(values, dtype=float)
    clusters = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    known = ~np.isnan(values)
    if not known.any():
        return None
    _, index = np.unique(clusters[known], return_inverse=True)
    sums, counts = np.bincount(index, values[known]), np.bincount(index)
    of_cluster = np.stack([sums, counts], axis=1)[np.lexsort((sums, counts))]
    n = len(counts)
    drawn = resampled_sums(of_cluster, _RESAMPLES, seed)
    means = drawn[:, 0] / drawn[:, 1]
    if np.ptp(means) < 1e-12:
        return None
    # the quantile that undoes both: t instead of normal, and the bootstrap's variance of (n - 1) / n
    tail = NormalDist().cdf(-np.sqrt(n / (n - 1)) * _t_quantile(n - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _t_quantile(degrees: int) -> float:
    """The 97.5% quantile of Student's t, from its Cornish-Fisher expansion: to 1% from 4 degrees on."""
    z = 1.959964
    if degrees < 3:
        return (12.706, 4.303)[degrees - 1]
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def rate_interval(values: Sequence[float], clusters: Sequence[int] | None = None) -> tuple[float, float] | None:
    """
    95% interval of a rate, such as a win rate: [`ratio_interval`] of what each prompt adds.

    Args:
        values (`Sequence[float]`): one per comparison, 0 to 1, such as .5 for a tie; NaN where there is none.
        clusters (`Sequence[int]`, *optional*): which prompt each belongs to. Unset, each stands for itself.

    Returns:
        `tuple(float, float)`: lower and upper end, within 0 and 1; `None` without any value.
    """
    values = np.asarray(values, dtype=float)
    clusters = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    known = ~np.isnan(values)
    _, index = np.unique(clusters[known], return_inverse=True)
    return ratio_interval(np.stack([np.bincount(index, values[known]), np.bincount(index)], axis=1))


def ratio_interval(parts_C2: np.ndarray) -> tuple[float, float] | None:
    """
    95% interval of a rate whose outcomes belong to prompts: Wilson's with the number of independent outcomes that would
    tell as much, as in surveys of clusters ([Franco et al. 2019](https://doi.org/10.1093/jssam/smy019)).

    That number follows from how much prompts differ. They are joined by two imaginary ones, one that was won throughout
    and one that was lost: where all that was seen is alike nothing differs, and an estimate from it alone would claim to
    know the rate. Then the number is that of the prompts. Where each prompt has one outcome of 0 or 1 it is so exactly, and
    the interval is [`wilson_interval`]. Ties make it larger, pictures of a prompt that agree smaller.

    Args:
        parts_C2 (`np.ndarray`): of each prompt, what it adds to the numerator, and to the denominator; rows of zeros are left
            out.

    Returns:
        `tuple(float, float)`: lower and upper end, within 0 and 1; `None` where all denominators are 0.
    """
    parts_C2 = parts_C2[parts_C2[:, 1] > 0]
    n = len(parts_C2)
    if n == 0:
        return None
    won, lost = parts_C2[:, 1].mean() * np.array([[1, 1], [0, 1]])
    numerators, denominators = np.concatenate([parts_C2, [won, lost]]).T
    rate = numerators.sum() / denominators.sum()
    # sums in one order, so that it does not matter in which the prompts were found
    variance = np.sort((numerators - rate * denominators) ** 2).sum() / denominators.sum() ** 2
    worth = rate * (1 - rate) / variance * n / (n + 2)
    return wilson_interval(float(parts_C2[:, 0].sum() / parts_C2[:, 1].sum()), float(worth))


def wilson_interval(rate: float, count: float) -> tuple[float, float]:
    """
    95% Wilson score interval of a rate.

    For rates of outcomes that are 0 or 1 and independent. Win rates have ties, and several pictures of a prompt: theirs is
    [`rate_interval`].

    Args:
        rate (`float`): the observed rate, 0 to 1.
        count (`float`): number of independent outcomes.

    Returns:
        `tuple(float, float)`: lower and upper end, within 0 and 1.
    """
    z = 1.959964
    centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(one: list[bool], other: list[bool]) -> dict[str, float]:
    """
    McNemar's exact test of two judges on the same pairs, from whether each is right.

    Returns:
        `dict[str, float]`: `only_first` and `only_second`, how many pairs one got right and the other did not, and
        `p_value`, two-sided.
    """
    only_first = sum(a and not b for a, b in zip(one, other, strict=True))
    only_second = sum(b and not a for a, b in zip(one, other, strict=True))
    n = only_first + only_second
    tail = sum(math.comb(n, i) for i in range(min(only_first, only_second) + 1)) / 2**n
    return {"only_first": only_first, "only_second": only_second, "p_value": min(1.0, 2 * tail)}
