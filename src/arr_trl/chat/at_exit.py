"""What chat models do when the process ends, before it waits for the threads that wait for them."""

import threading
import weakref
from collections.abc import Callable


def call_at_exit(method: Callable[[], None]) -> None:
    """
    Call a bound method when the interpreter begins to end, unless its object is gone by then.

    `concurrent.futures` joins the threads of its pools before anything in `atexit` runs, so a thread that waits for a
    reply would keep an interrupted run alive until the server answers. What `threading` calls at exit, last come first
    served, is the only thing before that, and it has no public name (until 3.14 at least).
    """
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    threading._register_atexit(call)
