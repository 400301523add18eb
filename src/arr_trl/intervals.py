"""
95% intervals of rates and means: by resampling what belongs together, and by Wilson's formula where every outcome stands
for itself or nothing varies.
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
    ones are too narrow on few clusters. Where nothing varies, so that every resample is the same, the Wilson interval
    is taken, which needs values between 0 and 1. The order of the values says nothing, so that it does not matter how many
    processes found them.

    Args:
        values (`Sequence[float]`): one number per comparison; NaN where there is none.
        clusters (`Sequence[int]`, *optional*): which prompt each belongs to. Unset, each stands for itself.
        seed (`int`, *optional*, defaults to `0`): seed of the resampling.

    Returns:
        `tuple(float, float)`: lower and upper end; `None` without any value, and for a single cluster of values outside
        0 and 1.
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
        mean = float(means[0])
        return wilson_interval(mean, n) if 0 <= mean <= 1 else None
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


def wilson_interval(rate: float, count: int) -> tuple[float, float]:
    """
    95% Wilson score interval of a rate.

    For rates of outcomes that are 0 or 1 and independent. Win rates have ties, and several pictures of a prompt: theirs is
    [`bootstrap_interval`].

    Args:
        rate (`float`): the observed rate, 0 to 1.
        count (`int`): number of independent outcomes, at least 1.

    Returns:
        `tuple(float, float)`: lower and upper end, within 0 and 1.
    """
    z = 1.959964
    centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)
