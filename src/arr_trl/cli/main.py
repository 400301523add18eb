"""`arr-trl`: one file per command. Heavy imports happen inside the command that runs, so that `--help` is instant."""

import argparse
import os
import signal
import sys
from importlib import import_module

from ..lazy import without_remarks
from ..version import __version__
from .completion import complete


# name of the command, which is also its module, `-` as `_`: what it does
COMMANDS = {
    "quickstart": "Train, measure and release a small model in minutes on a CPU, without a download.",
    "init": "Begin a project: settings, a rubric, prompts and four commands, for a family with a recipe.",
    "doctor": "Say what a run would founder on, what the judge replies, and whether it fits, before it costs.",
    "rpo": "Train a LoRA adapter with Rubric Policy Optimization, evaluate it and write a release.",
    "grpo": "Train a LoRA adapter with Flow-GRPO or another loss on noisy steps with groups of candidates.",
    "nft": "Train a LoRA adapter with DiffusionNFT or another loss on noised finished pictures.",
    "align-prop": "Train a LoRA adapter with the gradient of a reward: AlignProp, DRaFT, ReFL, DRTune, LeapAlign.",
    "dpo": "Train a LoRA adapter with Diffusion-DPO on preference data, without drawing pictures.",
    "pairs": "Make preference pairs: by critique and edit, best against worst, or of what a run drew and judged.",
    "vote": "Vote on pairs of pictures on a page of this machine, and see how raters agree.",
    "evaluate": "Compare a base with adapters on a prompt set, and write a report.",
    "judge": "Measure a judge against labelled pairs, show what it was asked, or try a published one.",
    "rubric": "Write a rubric from preferences, measure it, look at it, share it.",
    "release": "Give adapters of earlier versions their full strength in every loader.",
    "push": "Put the adapters of a release on the Hub, beside those that are there already.",
    "space": "Write a Gradio Space that draws with base and adapter at one seed, and put it on the Hub.",
    "schema": "Print the JSON schema of a command's YAML files, for editors.",
    "env": "Print versions and hardware, for bug reports.",
}


def main(argv: list[str] | None = None) -> int:
    """
    Run `arr-trl`; returns the exit status: 0 for success, 2 for input that has to be changed, 130 after a Ctrl-C that
    the command does not handle itself.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="arr-trl",
        description="Align image generators with judges you can read.",
        epilog="Begin with `arr-trl quickstart`, or with `arr-trl init` for a project of your own.",
    )
    parser.add_argument("--version", action="version", version=f"arr_trl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        # each command parses its own arguments, so `-h` behind it is not ours
        commands.add_parser(name, help=help_text, add_help=False)
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for what may follow
        complete(parser, commands.choices)
    args, _ = parser.parse_known_args(argv[:1])
    if args.command is None:
        parser.print_help()
        return 2
    try:
        with without_remarks():
            return import_module(f"arr_trl.cli.{args.command.replace('-', '_')}").run(argv[1:])
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
