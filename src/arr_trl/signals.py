"""SIGTERM and Ctrl-C, where something has to be finished first."""

import signal
from collections.abc import Callable


def take_signals(handle: Callable) -> Callable[[], None]:
    """
    Let `handle(number, frame)` receive SIGTERM and SIGINT, but for one that the program handles itself or ignores. Only
    the main thread may do so.

    Returns:
        `Callable`: gives them back; a second call does nothing.
    """
    ordinary = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    taken = {n: signal.signal(n, handle) for n, handler in ordinary.items() if signal.getsignal(n) == handler}

    def give_back() -> None:
        while taken:
            signal.signal(*taken.popitem())

    return give_back
