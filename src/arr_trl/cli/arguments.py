"""How every command reads its arguments and tells what is wrong with them, and the names that stand for TinyScenes."""

import difflib
import os
import re
import sys
import tempfile
import warnings
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..shipped import file_or_shipped
from ..text_files import read_text
from .lines import say
from .options_help import HELP_ALL, print_help


if TYPE_CHECKING:
    from trl import TrlParser

# the world that ships with the package, and that of its edits, where a model, a dataset or a judge is asked for
TINY_SCENES = "tiny_scenes"
TINY_SCENES_EDIT = "tiny_scenes_edit"


def parse(parser: "TrlParser", argv: list[str]) -> tuple:
    """
    Arguments of the command line over those of YAML files, of which a later one wins.

    Raises:
        `ValueError`: when a file cannot be read, or an option does not exist; the message names the nearest one.
        `SystemExit`: with status 0, for `--help` and `--help_all`, once they are printed.
    """
    if {"-h", "--help", HELP_ALL} & set(argv):
        print_help(parser, everything=HELP_ALL in argv)
        sys.exit(0)
    argv = with_config_files(argv)
    parser.error = _refuse  # argparse's own prints every option there is
    set_defaults = parser.set_defaults_with_config
    parser.set_defaults_with_config = lambda **values: set_defaults(**_at_home(values))
    try:
        files = [file for option, file in pairwise(argv) if option == "--config"]
        for file in files:
            _check_values(parser, file)
        if len(files) > 1:
            return _parse_merged(parser, argv, files)
        *parsed, unknown = parser.parse_args_and_config(argv, return_remaining_strings=True)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        path = argv[argv.index("--config") + 1]
        raise ValueError(f"{path} is not readable as YAML: {' '.join(str(error).split())}") from error
    for name in (word.lstrip("-") for word in unknown if word.startswith("--")):
        known = [action.dest for action in parser._actions]
        nearest = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"There is no option `{name}`"
            + (f"; did you mean `{nearest[0]}`?" if nearest else f"; see `{parser.prog} --help`.")
        )
    if unknown:
        raise ValueError(f"{unknown[0]!r} stands where an option was expected; options begin with `--`.")
    return tuple(parsed)


def parse_early(parser: "TrlParser", argv: list[str]) -> tuple | None:
    """
    [`parse`] with a configuration of [`~arr_trl.cli.light_config.light`], before anything is imported that takes seconds.

    Returns:
        `tuple` or `None`: `None` where what it knows is not enough, as for a help with every default.

    Raises:
        `ValueError` and `SystemExit`: as [`parse`].
    """
    if HELP_ALL in argv:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are said when it is parsed again
        try:
            return parse(parser, argv)
        except (AttributeError, NameError, TypeError):
            return None


def with_config_files(argv: list[str]) -> list[str]:
    """
    A command line in which each `--config` is followed by a file: one that ships with the package by its name.

    Raises:
        `FileNotFoundError`: when there is no such file, and none that ships has this name.
        `ValueError`: when nothing follows.
    """
    argv = [part for word in argv for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    argv = [_at_home(word) for word in argv]
    if argv[-1:] == ["--config"]:
        raise ValueError("`--config` takes a YAML file, or the name of one that ships with the package.")
    return [
        str(file_or_shipped("configs", word, "--config")) if option == "--config" else word
        for option, word in zip(["", *argv], argv, strict=False)
    ]


def _parse_merged(parser: "TrlParser", argv: list[str], files: list[str]) -> tuple:
    """[`parse`] of several YAML files, as one that has the values of all of them."""
    merged: dict[str, Any] = {}
    for file in files:
        content = yaml.safe_load(read_text(file))
        if not isinstance(content, dict):
            raise ValueError(f"{file} holds no settings; write one `name: value` a line.")
        merged |= content
    at = [i for i, word in enumerate(argv) if word == "--config"]
    rest = [word for i, word in enumerate(argv) if i not in at and i - 1 not in at]
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder, "config.yaml")
        one.write_text(yaml.safe_dump(merged, allow_unicode=True), encoding="utf-8")
        return parse(parser, ["--config", str(one), *rest])


def _at_home(value: Any) -> Any:
    """
    A value with `~/` at its beginning as the home folder, where a shell would put it: it does not see a YAML file, nor what
    stands behind `=`.
    """
    if isinstance(value, dict):
        return {name: _at_home(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_at_home(part) for part in value]
    if not isinstance(value, str):
        return value
    name, given = value.split("=", 1) if re.match(r"--\w+=~", value) else ("", value)
    if given != "~" and not given.startswith("~/"):
        return value
    return f"{name}{'=' if name else ''}{os.path.expanduser(given)}"


def _refuse(message: str) -> None:
    raise ValueError(re.sub(r"^argument (--\w+)(/\S+)?:", r"\1:", message))


def _check_values(parser: "TrlParser", path: str) -> None:
    """
    Hold numbers, switches and choices of a YAML file to those of their options: argparse looks at the command line alone.
    """
    text = read_text(path)
    content = yaml.safe_load(text)
    if isinstance(content, dict):  # of two values YAML would take the last
        names = [key.value for key, _ in yaml.compose(text, Loader=yaml.SafeLoader).value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{path}: {twice} comes twice; keep the one that is meant.")
    actions = {action.dest: action for action in parser._actions}
    for name, value in content.items() if isinstance(content, dict) else ():
        action = actions.get(name)
        if action is None or value is None:
            continue
        if action.choices and not isinstance(value, list) and value not in action.choices:
            raise ValueError(f"{path}: {name}: {value!r} has to be one of {', '.join(map(str, action.choices))}.")
        if action.type in (None, str):
            continue
        many = action.nargs not in (None, "?")
        # by name, since transformers and TRL have a `string_to_bool` each
        types = {"int": "a whole number", "float": "a number", "string_to_bool": "true or false"}
        what = types.get(action.type.__name__)
        if what is None or (many and not isinstance(value, list)):
            continue
        for item in value if many else [value]:
            try:
                action.type(str(item))
            except (ValueError, ArgumentTypeError):
                raise ValueError(f"{path}: {name}: {item!r} has to be {what}.") from None


@contextmanager
def explained(*others: type[Exception]) -> Iterator[None]:
    """Show what is wrong with the input as its sentence alone; anything later keeps its traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError, *others) as error:
        say(f"arr-trl: {error}", file=sys.stderr)
        sys.exit(2)
