"""Means that can be put together."""

from collections.abc import Sequence


class MeanOf(float):
    """
    A mean for `log_metric` that still knows what it is of. Means of means would weigh a process or a rollout that measured
    little like one that measured much; the trainers here take the mean of all that was measured.

    Args:
        values (`Sequence[float]`): one or more.
    """

    values: list[float]

    def __new__(cls, values: Sequence[float]):
        mean = super().__new__(cls, sum(values) / len(values))
        mean.values = [float(value) for value in values]
        return mean
