"""What chat models do when the process ends, before it waits for the threads that wait for them."""

import os
import threading
import weakref
from collections.abc import Callable


def call_at_exit(method: Callable[[], None]) -> None:
    """
    Call a bound method when the interpreter begins to end, unless its object is gone by then, or this is a process that
    was forked since: the workers of a data loader have none of the threads that such a method waits for.

    `concurrent.futures` joins the threads of its pools before anything in `atexit` runs, so a thread that waits for a
    reply would keep an interrupted run alive until the server answers. What `threading` calls at exit, last come first
    served, is the only thing before that, and it has no public name (until 3.14 at least).
    """
    reference, process = weakref.WeakMethod(method), os.getpid()

    def call() -> None:
        alive = reference()
        if alive is not None and os.getpid() == process:
            alive()

    threading._register_atexit(call)
