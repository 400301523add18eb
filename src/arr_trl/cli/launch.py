"""`--accelerate_config`: start a command in several processes, through `accelerate launch`."""

import difflib
import os
import signal
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import yaml

from ..shipped import file_or_shipped
from ..signals import take_signals


OPTION = "--accelerate_config"
SHUTDOWN_TIMEOUT_S = 24 * 60 * 60
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
        `FileNotFoundError`: when there is no such configuration.
        `ValueError`: when accelerate cannot read it, or neither knows an option.
    """
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    at = argv.index(OPTION)
    name, argv = "".join(argv[at + 1 : at + 2]), argv[:at] + argv[at + 2 :]
    config_file = file_or_shipped("accelerate_configs", name, OPTION)
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
    """
    Run `arr-trl <command>` under `accelerate launch`.

    Returns:
        `int`: 0, or the status of the first process that failed, 128 and the signal's number for one that a signal ended.
    """
    import torch.distributed.elastic.multiprocessing as elastic
    from accelerate.commands import launch as accelerate_launch

    # `--shutdown-timeout` of torchrun (from torch 2.13): it kills what is still at work 30 s after a signal, in the
    # middle of the step that was to be finished. Processes that hang when another has failed get 30 s in any case.
    os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", str(SHUTDOWN_TIMEOUT_S))
    words = [*of_launcher, "--module", "arr_trl.cli.main", command, *of_command]
    try:
        with _signals_for_the_child():
            accelerate_launch.launch_command(accelerate_launch.launch_command_parser().parse_args(words))
    except elastic.SignalException as error:
        return 128 + error.sigval
    except subprocess.CalledProcessError as error:  # of the one process, which has said why
        return _status(error.returncode)
    except elastic.errors.ChildFailedError as error:
        rank, failure = error.get_first_failure()
        how = f"ended with status {failure.exitcode}; what it said is above"
        if failure.exitcode < 0:
            how = f"was ended by {signal.Signals(-failure.exitcode).name}"
        if failure.exitcode == -signal.SIGKILL:
            how += ", as the system does when memory runs out"
        print(f"arr-trl: Process {rank} {how}.", file=sys.stderr)
        return _status(failure.exitcode)
    return 0


def _status(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


@contextmanager
def _signals_for_the_child() -> Iterator[None]:
    """
    Leave signals to the process that `accelerate launch` starts when it is one: it would die of SIGTERM and let that one
    run on, and of Ctrl-C, which a terminal sends to both, before that one has written its checkpoint. Of several
    processes torchrun takes care, with handlers of its own.
    """

    def handle(number: int, frame) -> None:
        children = psutil.Process().children()
        if not children:
            give_back()
            signal.raise_signal(number)
        elif number == signal.SIGTERM:
            for child in children:
                child.send_signal(number)

    give_back = take_signals(handle)
    try:
        yield
    finally:
        give_back()
