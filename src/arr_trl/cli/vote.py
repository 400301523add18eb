"""
`arr-trl vote`: a page on this machine on which people say which of two pictures is better. `arr-trl vote agreement`: how
far they agree. `arr-trl vote push`: their votes as a dataset on the Hub.
"""

import sys
import time
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..folders import check_writable, replacing
from .arguments import TINY_SCENES, TINY_SCENES_EDIT, explained, parse
from .checks import check_file, check_limit
from .judge_arguments import JudgeArguments, build_judge
from .picture_arguments import PictureArguments, load_pipeline_of, read_rows, settings_of


if TYPE_CHECKING:
    from ..votes import VotingPair


@dataclass
class VoteArguments(PictureArguments):
    """What `arr-trl vote` takes: `pairs`, or `model` and `adapter` that draw for the prompts of `dataset`."""

    pairs: str | None = field(
        default=None,
        metadata={
            "help": "Pairs to vote on: a .jsonl, .json or .parquet file, a folder or a dataset on the Hub, such as "
            "`arr-trl pairs` writes."
        },
    )
    adapter: str | None = field(
        default=None,
        metadata={"help": "With `model`: an adapter that draws against it, a folder or `user/repo/subfolder`."},
    )
    output: str = field(
        default="votes.jsonl", metadata={"help": "File of votes; the pictures are put into `images` beside it."}
    )
    port: int = field(default=0, metadata={"help": "Port on loopback; 0 takes one that is free."})
    open: bool = field(default=False, metadata={"help": "Open the page in the browser of this machine."})
    seed: int = field(default=1234, metadata={"help": "With `model`: seed of the noise, with the prompt."})


@dataclass
class AgreementArguments(JudgeArguments):
    """What `arr-trl vote agreement` takes; a judge that is given is asked about the pairs and compared, too."""

    votes: str = field(default="votes.jsonl", metadata={"help": "File of votes."})
    output: str | None = field(default=None, metadata={"help": "HTML file to write what was found to."})
    judge_store: str | None = field(
        default=None, metadata={"help": "SQLite file of the judge's answers. Unset, `judge.sqlite` beside the votes."}
    )


@dataclass
class PushVotesArguments:
    """What `arr-trl vote push` takes."""

    votes: str = field(default="votes.jsonl", metadata={"help": "File of votes."})
    repo_id: str | None = field(default=None, metadata={"help": "Dataset on the Hub to push to, such as user/votes."})
    private: bool = field(default=False, metadata={"help": "Create that dataset as private."})


def run(argv: list[str]) -> int:
    """Serve the page until Ctrl-C, or what the other commands do; returns the exit status."""
    if argv[:1] == ["agreement"]:
        return _agreement(argv[1:])
    if argv[:1] == ["push"]:
        return _push(argv[1:])
    return _vote(argv)


def _vote(argv: list[str]) -> int:
    with explained():
        args = _parse(argv, "vote", VoteArguments)
        if (args.pairs is None) == (args.model is None):
            raise ValueError("Give `pairs`, or `model`, `adapter` and `dataset` to draw pairs: one of the two.")
        check_limit(args.limit)
        check_file(args.output)

        from ..votes import VoteBook, VotingServer

        folder, bad = Path(args.output).absolute().parent, []
        pairs = _of_dataset(args, folder, bad) if args.pairs is not None else _of_models(args, folder)
        book = VoteBook(args.output)
        title = Path(args.pairs).name if args.pairs is not None else f"{args.model} with and without {args.adapter}"
        server = VotingServer(pairs, book, title, args.port)
    with server:
        print(f"Vote at {server.url} and see how raters agree at {server.url}agreement. Ctrl-C ends it.", flush=True)
        if args.open:
            webbrowser.open(server.url)
        try:
            server.wait_until_read()
            for sentence in bad[:3]:
                print(f"Left out: {sentence}", file=sys.stderr)
            if len(bad) > 3:
                print(f"Left out: {len(bad) - 3} more rows.", file=sys.stderr)
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print(f"\n{len(book.rows())} votes are in {args.output}; the same command goes on.")
    return 0


def _of_dataset(args: VoteArguments, folder: Path, bad: list[str]) -> "Iterator[VotingPair]":
    from itertools import islice

    from ..data.preferences import load_preferences
    from ..votes.sources import pairs_of_preferences

    loaded = load_preferences(args.pairs, args.dataset_config, args.dataset_split, ties=True)
    return islice(pairs_of_preferences(loaded, folder, bad), args.limit)


def _of_models(args: VoteArguments, folder: Path) -> "Iterator[VotingPair]":
    from ..evaluation.adapters import parse_adapters
    from ..pairs import Painter
    from ..votes.sources import pairs_of_models

    if args.adapter is None or args.dataset is None:
        raise ValueError("`model` needs `adapter`, what it is compared with, and `dataset`, the prompts.")
    (adapter,) = parse_adapters([args.adapter])
    rows = read_rows(args)
    policy = load_pipeline_of(args)
    adapted = Painter(policy, folder / "drawn", settings_of(args, policy), args.model, adapter, args.batch_size)
    return pairs_of_models((adapted.without_adapter(), adapted), rows, folder, args.seed)


def _agreement(argv: list[str]) -> int:
    with explained():
        args = _parse(argv, "vote agreement", AgreementArguments)
        if args.output is not None:
            check_file(args.output)

        from ..votes.agreement import agreement_of, read_votes
        from ..votes.printed import agreement_html, print_agreement

        rows = read_votes(args.votes)
        judged = _judged(args, rows) if args.judge_model or args.judge_preset else {}
    found = agreement_of(rows, judged)
    print_agreement(found)
    if args.output is not None:
        with replacing(args.output) as written:
            written.write_text(agreement_html(Path(args.votes).name, found), encoding="utf-8")
        print(f"Wrote {args.output}.")
    return 0


def _judged(args: AgreementArguments, rows: list[dict]) -> dict[str, dict[str, int]]:
    """What a judge says of every pair that was voted on; a pair without a verdict is left out."""
    from ..data import load_image
    from ..judges import JudgeRow

    folder = Path(args.votes).parent
    judge = build_judge(args, args.judge_store or folder / "judge.sqlite", order="both")
    judge.check_first_row(rows)
    pairs = {row["pair"]: row for row in rows}

    def shown(stored):
        return load_image([folder / one for one in stored] if isinstance(stored, list) else folder / stored)

    asked = [
        JudgeRow(
            row["prompt"],
            tuple(shown(row["images"])),
            shown(row["source_image"]) if "source_image" in row else None,
            columns=row | ({"mask_image": shown(row["mask_image"])} if "mask_image" in row else {}),
        )
        for row in pairs.values()
    ]
    judge.check()
    verdicts = judge.compare(asked)
    said = {
        key: 2 if verdict.winner is None else verdict.winner
        for key, verdict in zip(pairs, verdicts, strict=True)
        if verdict.failure is None
    }
    if len(said) < len(pairs):
        print(f"The judge gave no verdict on {len(pairs) - len(said)} of {len(pairs)} pairs.", file=sys.stderr)
    return {f"judge {', '.join(dict.fromkeys(judge.model_names))}": said}


def _push(argv: list[str]) -> int:
    with explained():
        args = _parse(argv, "vote push", PushVotesArguments)
        if args.repo_id is None:
            raise ValueError("`repo_id` is needed: the dataset on the Hub, such as user/votes.")

        from ..release import PushError
        from ..release.pairs import PairsFacts, push_pairs, write_pairs
        from ..votes.agreement import read_votes
        from ..votes.published import published_rows

        rows = read_votes(args.votes)
        output = Path(args.votes).with_suffix("")
        check_writable(output, "votes")
        facts = PairsFacts("Pairs of pictures that people voted on, a row for each vote; level ranks are ties.")
        write_pairs(published_rows(rows, Path(args.votes).parent), output, facts)
    try:
        print(f"Pushed to {push_pairs(output, args.repo_id, args.private or None)}")
    except PushError as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(argv: list[str], command: str, arguments: type):
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    (args,) = parse(TrlParser((arguments,), prog=f"arr-trl {command}", description=arguments.__doc__), argv)
    if getattr(args, "model", None) in (TINY_SCENES, TINY_SCENES_EDIT):
        from ..tiny_scenes import use_one_thread

        use_one_thread()
    return args
