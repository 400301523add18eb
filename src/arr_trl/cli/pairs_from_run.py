"""`arr-trl pairs from-run`: what a run drew and judged, as pairs."""

from collections import Counter
from pathlib import Path

from ..folders import check_writable
from .arguments import explained, parse
from .pairs_arguments import FromRunArguments
from .pairs_made import pushed


def run_from_run(argv: list[str]) -> int:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    description = "Make pairs of what a run drew and judged, as `log_completions` kept it."
    parser = TrlParser((FromRunArguments,), prog="arr-trl pairs from-run", description=description)
    with explained():
        if argv and not argv[0].startswith("-"):
            argv = ["--source", *argv]
        (args,) = parse(parser, argv)

        from ..data.completions import find_completions, pairs_of_completions
        from ..release.pairs import PairsFacts, write_pairs

        if args.source is None:
            raise ValueError("`source` is needed: the output folder of a run with `log_completions`.")
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
    return pushed(args)
