"""`arr-trl schema`: the JSON schema of a command's YAML files, by which an editor completes and checks them."""

import argparse
import enum
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from .command import TRAINERS, TrainCommand, command_of
from .train import quiet


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
    schema = schema_of(command_of(args.command))
    text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        Path(args.output).write_text(text, encoding="utf-8")
        print(
            f"Wrote {args.output}. The first line of a file that it is for: # yaml-language-server: $schema={args.output}"
        )
    return 0


def schema_of(command: TrainCommand) -> dict[str, Any]:
    """The schema of a command that trains, from the parser that reads its files."""
    with quiet():
        config_class = command.config_class()
        actions = command.parser(config_class)._actions
    types = {field.name: str(field.type) for kind in (command.arguments, config_class) for field in fields(kind)}
    properties = {
        a.dest: _property(a, types[a.dest]) for a in actions if f"--{a.dest}" in a.option_strings and a.dest in types
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Settings of arr-trl {command.name}",
        "description": command.description,
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
