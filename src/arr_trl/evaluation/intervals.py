"""95% intervals of means, from comparisons that may belong together."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from .win_rate import wilson_interval


_RESAMPLES = 2000
_BLOCK = 100  # resamples drawn at a time, which bounds the memory


def resample_counts(clusters: int, rng: np.random.Generator, resamples: int = _RESAMPLES):
    """How often each of `clusters` is drawn in each bootstrap resample, `[_BLOCK, clusters]` at a time."""
    for start in range(0, resamples, _BLOCK):
        yield rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=min(_BLOCK, resamples - start))


def bootstrap_interval(
    values: Sequence[float], clusters: Sequence[int] | None = None, seed: int = 0
) -> tuple[float, float] | None:
    """
    95% bootstrap interval of a mean.

    Pictures of one prompt are alike, and an interval that takes them for independent is too narrow. With `clusters`
    whole prompts are drawn, so that what belongs together stays together. The percentiles are widened as Student's t is
    wider than the normal distribution ([Hesterberg 2015](https://doi.org/10.1080/00031305.2015.1089789)), because plain
    ones are too narrow on few clusters. Where nothing varies, so that every resample is the same, the Wilson interval
    is taken, which needs values between 0 and 1.

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
    n = len(counts)
    rng = np.random.default_rng(seed)
    means = np.concatenate([(drawn @ sums) / (drawn @ counts) for drawn in resample_counts(n, rng)])
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
