"""`arr-trl pairs`: make preference data. Each command writes a dataset that `arr-trl dpo` trains on as it is."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from ..folders import check_writable
from .arguments import explained
from .pairs_made import run_best_worst, run_rich


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="arr-trl pairs", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, help_text) in _COMMANDS.items():
        commands.add_parser(name, help=help_text, add_help=False)
    args, _ = parser.parse_known_args(argv[:1])
    return _COMMANDS[args.command][0](argv[1:])


def _from_run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="arr-trl pairs from-run", description=_COMMANDS["from-run"][1])
    parser.add_argument(
        "source", help="Output folder of a run with `log_completions`, or the dataset on the Hub that it pushed to."
    )
    parser.add_argument("--output", required=True, help="Folder to write the dataset to.")
    parser.add_argument(
        "--pairs",
        choices=["extremes", "all", "ranking"],
        default="extremes",
        help="Of the candidates of a prompt the best against the worst, all pairs that differ, or all as a ranking for "
        "`loss_type: rank`.",
    )
    parser.add_argument(
        "--min_margin",
        "--min-margin",
        type=float,
        default=0.0,
        help="Leave out verdicts that were less clear than this, 0 to 1, where the judge told.",
    )
    parser.add_argument(
        "--test_share",
        "--test-share",
        type=float,
        default=0.05,
        help="Share of the prompts whose pairs are held out as split `test`.",
    )
    parser.add_argument("--repo_id", "--repo-id", help="Dataset on the Hub to push to as well, such as user/pairs.")
    parser.add_argument("--private", action="store_true", help="Create that dataset as private.")
    args = parser.parse_args(argv)
    with explained():
        from ..data.completions import find_completions, pairs_of_completions
        from ..release import PushError
        from ..release.pairs import PairsFacts, push_pairs, write_pairs

        if not 0 <= args.test_share < 1:
            raise ValueError(f"test_share={args.test_share} is a share, 0 or greater and less than 1.")
        check_writable(args.output, "output")
        left_out: Counter = Counter()
        files = find_completions(args.source)
        facts = PairsFacts(
            "Candidates that were drawn and judged while an adapter was trained with `arr_trl`; what was worth more in its "
            "loss is preferred.",
            left_out=left_out,
        )
        rows = pairs_of_completions(files, left_out, args.pairs, args.min_margin)
        counts = write_pairs(rows, Path(args.output), facts, args.test_share)
    print(f"Wrote {', '.join(f'{number} rows ({split})' for split, number in counts.items())} to {args.output}.")
    if left_out:
        print(f"Left out: {', '.join(f'{number} {reason}' for reason, number in left_out.items())}.")
    if args.repo_id is None:
        return 0
    try:
        print(f"Pushed to {push_pairs(Path(args.output), args.repo_id, args.private or None)}")
    except PushError as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    return 0


_COMMANDS = {
    "rich": (run_rich, "Draw, criticise, edit and judge again: pairs of a picture and the picture mended."),
    "best-worst": (run_best_worst, "Draw several pictures of each prompt, and pair the best with the worst."),
    "from-run": (_from_run, "Make pairs of what a run drew and judged, as `log_completions` kept it."),
}
