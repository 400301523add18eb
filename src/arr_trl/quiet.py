"""Progress bars of libraries: kept from a screen that shows what they are part of."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


@contextmanager
def without_bars(are_shown: Callable[[], bool], hide: Callable[[], None], show: Callable[[], None]) -> Iterator[None]:
    """
    In which a library shows no progress bars; afterwards it does what it did before.

    Args:
        are_shown (`Callable`): tells whether it shows them.
        hide (`Callable`): lets it show none.
        show (`Callable`): lets it show them again.
    """
    shown = are_shown()
    hide()
    try:
        yield
    finally:
        if shown:
            show()


def without_bars_of_datasets() -> AbstractContextManager[None]:
    """In which `datasets` shows no bar for each file that it reads or writes."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    return without_bars(lambda: not are_progress_bars_disabled(), disable_progress_bars, enable_progress_bars)
