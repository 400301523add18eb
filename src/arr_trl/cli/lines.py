"""Sentences for a person at a terminal, which alone breaks them wherever a line ends."""

import shutil
import sys
import textwrap
from typing import TextIO


def say(sentence: str, indent: str = "", file: TextIO | None = None) -> None:
    """
    Print a sentence: on a terminal broken between words, elsewhere on one line, for programs that read it.

    Args:
        sentence (`str`): what to print.
        indent (`str`, *optional*, defaults to `""`): what the second line and those after it begin with.
        file (`TextIO`, *optional*): standard output by default.
    """
    file = file or sys.stdout
    if file.isatty() and "\n" not in sentence:
        sentence = textwrap.fill(
            sentence,
            shutil.get_terminal_size().columns,
            subsequent_indent=indent,
            break_long_words=False,  # paths and commands are copied whole
            break_on_hyphens=False,
        )
    print(sentence, file=file)
