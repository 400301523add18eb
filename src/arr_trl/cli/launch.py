"""`--accelerate_config`: start a command in several processes, through `accelerate launch`."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from trl import TrlParser

CONFIGS = Path(__file__).parent / "accelerate_configs"
OPTION = "--accelerate_config"


def launch(command: str, parser: "TrlParser", argv: list[str]) -> int:
    """
    Run `arr-trl <command>` under `accelerate launch`.

    Args:
        command (`str`): name of the command.
        parser ([`~trl.TrlParser`]): its parser; options that it does not know are for `accelerate launch`.
        argv (`list[str]`):
            What follows the command, with `--accelerate_config` and the name of one of the configurations that ship
            with the package, or the path of another.

    Returns:
        `int`: 0. Processes that end otherwise end this one.

    Raises:
        `ValueError`: when there is no such configuration, or an option that neither knows.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser

    *_, unknown = parser.parse_args_and_config(argv, return_remaining_strings=True, separate_remaining_strings=True)
    rest = iter(unknown)
    expected = next(rest, None)
    of_command = []
    for word in argv:
        if word == expected:
            expected = next(rest, None)
        else:
            of_command.append(word)

    launcher = launch_command_parser()
    for word in unknown:
        known = [*launcher._option_string_actions, *parser._option_string_actions, OPTION]
        if word.startswith("--") and word not in known:
            nearest = difflib.get_close_matches(word, known, n=1)
            raise ValueError(
                f"There is no option `{word[2:]}`, here or of `accelerate launch`"
                + (f"; did you mean `{nearest[0][2:]}`?" if nearest else ".")
            )
    at = unknown.index(OPTION)
    path = _config_file(unknown[at + 1] if len(unknown) > at + 1 else "")
    of_launcher = ["--config_file", str(path), *unknown[:at], *unknown[at + 2 :]]
    launch_command(launcher.parse_args([*of_launcher, "--module", "arr_trl.cli.main", command, *of_command]))
    return 0


def _config_file(name: str) -> Path:
    shipped = CONFIGS / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    if Path(name).is_file():
        return Path(name)
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    raise ValueError(f"{OPTION} {name} is neither a file nor one of {names}.")
