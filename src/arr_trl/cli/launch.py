"""`--accelerate_config`: start a command in several processes, through `accelerate launch`."""

import difflib
from argparse import ArgumentParser
from pathlib import Path

import yaml


CONFIGS = Path(__file__).parent / "accelerate_configs"
OPTION = "--accelerate_config"
LAUNCH_HELP = (
    "In several processes: --accelerate_config NAME, one of single, ddp, multi_node, fsdp2, zero2 and zero3 or a file, with "
    "the options of `accelerate launch`, such as --num_processes, --machine_rank and --main_process_ip."
)


def split_options(parser: ArgumentParser, argv: list[str]) -> tuple[list[str], list[str]]:
    """
    Tell the options of a command from those of `accelerate launch`.

    Args:
        parser (`argparse.ArgumentParser`): parser of the command; what it does not know is for accelerate.
        argv (`list[str]`):
            What follows the command, with `--accelerate_config` and the name of one of the configurations that ship
            with the package, or the path of another.

    Returns:
        `tuple(list[str], list[str])`: the options of the command, and those of `accelerate launch`.

    Raises:
        `ValueError`: when there is no such configuration, accelerate cannot read it, or neither knows an option.
    """
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    at = argv.index(OPTION)
    name, argv = "".join(argv[at + 1 : at + 2]), argv[:at] + argv[at + 2 :]
    config_file = CONFIGS / f"{name}.yaml" if (CONFIGS / f"{name}.yaml").is_file() else Path(name)
    if not config_file.is_file():
        names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
        raise ValueError(f"{OPTION} {name} is neither a file nor one of {names}.")
    try:
        load_config_from_file(str(config_file))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{config_file} is no configuration of accelerate: {' '.join(str(error).split())}") from error

    known = list(launch_command_parser()._option_string_actions)
    of_command, of_launcher, mine = [], [], True
    for word in argv:
        if word.startswith("--"):
            option = word.partition("=")[0]
            mine = option == "--config" or option in parser._option_string_actions
            if not mine and option not in known:
                nearest = difflib.get_close_matches(option, [*known, *parser._option_string_actions], n=1)
                raise ValueError(
                    f"There is no option `{option[2:]}`, here or of `accelerate launch`"
                    + (f"; did you mean `{nearest[0][2:]}`?" if nearest else ".")
                )
        (of_command if mine else of_launcher).append(word)
    return of_command, ["--config_file", str(config_file), *of_launcher]


def launch(command: str, of_command: list[str], of_launcher: list[str]) -> int:
    """Run `arr-trl <command>` under `accelerate launch`; processes that fail end this one, too."""
    from accelerate.commands import launch as accelerate_launch

    words = [*of_launcher, "--module", "arr_trl.cli.main", command, *of_command]
    accelerate_launch.launch_command(accelerate_launch.launch_command_parser().parse_args(words))
    return 0
