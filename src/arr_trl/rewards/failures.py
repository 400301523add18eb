"""When what gives rewards has failed too often for training to go on. Judges that need no torch import it."""

from collections import deque
from collections.abc import Iterable


class RewardError(ValueError):
    """A reward function returned something that is not one reward per picture."""


class RewardFailureError(RewardError):
    """Too many pictures in a row got no reward for training to go on."""


class FailureWindow:
    """
    The latest of what was asked, and how much of it failed.

    Args:
        max_failure_rate (`float`, *optional*):
            Share of failures among the last `window` above which [`~FailureWindow.add`] says so; `None` never does.
        window (`int`):
            Number of answers that the share is taken over. It is always of the full window, so that the first few failures
            of a run do not stop it.
    """

    def __init__(self, max_failure_rate: float | None, window: int):
        if max_failure_rate is not None and not 0 <= max_failure_rate <= 1:
            raise ValueError(f"max_failure_rate={max_failure_rate} is a share; it has to lie between 0 and 1.")
        if window < 1:
            raise ValueError(f"failure_window={window} has to be at least one comparison.")
        self.max_failure_rate = max_failure_rate
        self._recent: deque[str | None] = deque(maxlen=window)

    @property
    def last(self) -> str | None:
        """The latest failure; `None` where there is none."""
        return next((failure for failure in reversed(self._recent) if failure is not None), None)

    def add(self, failures: Iterable[str | None], what: str) -> str | None:
        """
        Args:
            failures (`Iterable[str]`): why each failed, `None` where it did not.
            what (`str`): what each was, for the sentence, such as "comparisons ended without a verdict".

        Returns:
            `str`: how many of the latest failed and why the last of them did, `None` where it is not too many.
        """
        self._recent.extend(failures)
        failed = [failure for failure in self._recent if failure is not None]
        if self.max_failure_rate is None or len(failed) <= self.max_failure_rate * self._recent.maxlen:
            return None
        return (
            f"{len(failed)} of the last {len(self._recent)} {what}, more than "
            f"max_failure_rate={self.max_failure_rate:g} of a window of {self._recent.maxlen} allows. The last "
            f"failure was: {failed[-1]}"
        )
