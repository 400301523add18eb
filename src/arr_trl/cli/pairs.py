"""`arr-trl pairs`: make preference data. Each command writes a dataset that `arr-trl dpo` trains on as it is."""

import argparse

from .pairs_from_run import run_from_run
from .pairs_made import run_best_worst, run_rich


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="arr-trl pairs", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, help_text) in _COMMANDS.items():
        commands.add_parser(name, help=help_text, add_help=False)
    args, _ = parser.parse_known_args(argv[:1])
    return _COMMANDS[args.command][0](argv[1:])


_COMMANDS = {
    "rich": (run_rich, "Draw, criticise, edit and judge again: pairs of a picture and the picture mended."),
    "best-worst": (run_best_worst, "Draw several pictures of each prompt, and pair the best with the worst."),
    "from-run": (run_from_run, "Make pairs of what a run drew and judged, as `log_completions` kept it."),
}
