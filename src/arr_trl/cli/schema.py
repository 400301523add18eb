"""`arr-trl schema`: the JSON schema of a command's YAML files, by which an editor completes and checks them."""

import argparse
import enum
import json
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from .doctor import TRAINERS
from .train import quiet
from .train_arguments import TrainArguments


_TYPES = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "string_to_bool": {"type": "boolean"},
    "str": {"type": ["string", "number"]},  # what a file has as a number may be meant as a word
}


def run(argv: list[str]) -> int:
    """Print the schema, or write it to a file."""
    parser = argparse.ArgumentParser(prog="arr-trl schema", description=__doc__.split(": ", 1)[1])
    parser.add_argument("command", choices=TRAINERS, help="whose files: a command that trains")
    parser.add_argument("--output", help="file to write; unset, it is printed")
    args = parser.parse_args(argv)
    schema = import_module(f"arr_trl.cli.{args.command.replace('-', '_')}").run([], perform=schema_of)
    text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        Path(args.output).write_text(text, encoding="utf-8")
        print(
            f"Wrote {args.output}. The first line of a file that it is for: # yaml-language-server: $schema={args.output}"
        )
    return 0


def schema_of(
    argv: list[str],
    command: str,
    description: str,
    script_arguments_class: type[TrainArguments],
    config_class: type,
    *others: Any,
    **more: Any,
) -> dict[str, Any]:
    """The schema of a command, in place of [`~arr_trl.cli.train.train`]; from the parser that reads its files."""
    with quiet():
        from trl import TrlParser

        actions = TrlParser((script_arguments_class, config_class))._actions
    types = {field.name: str(field.type) for kind in (script_arguments_class, config_class) for field in fields(kind)}
    properties = {
        a.dest: _property(a, types[a.dest]) for a in actions if f"--{a.dest}" in a.option_strings and a.dest in types
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Settings of arr-trl {command}",
        "description": description,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _property(action: argparse.Action, annotation: str) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if action.help not in (None, argparse.SUPPRESS):
        said["description"] = " ".join(action.help.split()).replace("%%", "%")
    one = dict(_TYPES.get("str" if action.type is None else action.type.__name__, {}))
    if action.choices:
        one = {"enum": [choice.value if isinstance(choice, enum.Enum) else choice for choice in action.choices]}
    if "dict" in annotation:  # JSON on the command line, and as it is in a file
        one = {"anyOf": [one, {"type": "object"}]}
    if action.nargs not in (None, "?") or "list" in annotation or "list of" in (action.help or ""):
        one = {"anyOf": [{"type": "array", "items": one}, one]}  # a single one may stand alone
    if action.default is None:
        one = {"anyOf": [one, {"type": "null"}]} if one else one
    default = action.default.value if isinstance(action.default, enum.Enum) else action.default
    if isinstance(default, bool | int | float | str) and default != argparse.SUPPRESS:
        said["default"] = default
    return one | said
