"""What is on the screen while a pipeline is loaded: one bar, and those of downloads."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from transformers.utils import logging as transformers_logging

from ..quiet import without_bars


@contextmanager
def one_bar() -> Iterator[None]:
    """
    In which a pipeline is loaded with the bar of diffusers, its components, alone: those of transformers for the weights of
    each encoder break it into as many lines. Where there is no terminal there is none at all.
    """
    downloads = not are_progress_bars_disabled()
    with ExitStack() as stack:
        for library in (transformers_logging, *(() if sys.stderr.isatty() else (diffusers_logging,))):
            bars = (library.is_progress_bar_enabled, library.disable_progress_bar, library.enable_progress_bar)
            stack.enter_context(without_bars(*bars))
        if downloads:
            enable_progress_bars()  # the libraries switch those of the Hub off with their own
        yield
    if downloads:
        enable_progress_bars()
