"""
Completion in a shell, by argcomplete: commands, the options that most runs need, and the names of what ships. What a command
knows beyond that would take seconds to import.
"""

import argparse
from importlib.util import find_spec

from ..shipped import names
from .options_help import OPTIONS


_NAMED = {"config": "configs", "rubric": "rubrics", "accelerate_config": "accelerate_configs"}


def complete(parser: argparse.ArgumentParser, commands: dict[str, argparse.ArgumentParser]) -> None:
    """
    Answer the shell and end the process. Without argcomplete, which the extra `completion` brings, nothing is done.

    Args:
        parser (`argparse.ArgumentParser`): knows the commands.
        commands (`dict[str, argparse.ArgumentParser]`): the parsers of the commands, which know no options yet.
    """
    if find_spec("argcomplete") is None:
        return
    import argcomplete

    from .command import TRAINERS

    for command in ("quickstart", "doctor", *TRAINERS):
        for name in ("config", "accelerate_config", *OPTIONS):
            option = commands[command].add_argument(f"--{name}")
            if name in _NAMED:
                shipped, files = names(_NAMED[name]), argcomplete.FilesCompleter()
                option.completer = lambda prefix, shipped=shipped, files=files, **given: [*shipped, *files(prefix)]
    argcomplete.autocomplete(parser)
