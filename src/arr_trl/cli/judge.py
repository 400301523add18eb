"""
`arr-trl judge eval`: how far a judge can be trusted. `arr-trl judge log`: what it was asked and what it answered.
`arr-trl judge tifa`: questions about pictures. `arr-trl judge calibrate`: a judge fitted to labels. `arr-trl judge list`,
`show` and `try`: published judges. `arr-trl judge references`: pictures that some of those compare with. `arr-trl judge
train`: a judge that learns from labelled pairs. `arr-trl judge traces`: reasons for it to learn from.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .arguments import explained, parse
from .checks import check_file, check_limit, check_pairs_suffice
from .judge_arguments import JudgeArguments, build_judge
from .judge_calibrate import run as run_calibrate
from .judge_presets import run_list, run_show, run_try
from .judge_references import run as run_references
from .judge_tifa import run as run_tifa
from .judge_traces import run as run_traces
from .judge_train import run as run_train


@dataclass(kw_only=True)
class JudgeEvalArguments(JudgeArguments):
    """What `arr-trl judge eval` takes. Fields that begin with `compare_` make a second judge on the same pairs."""

    dataset: str = field(
        metadata={
            "help": "Labelled pairs: a .jsonl, .json or .parquet file, a dataset on the Hub, which is streamed, or a "
            "benchmark, such as `mmrb2-edit`, with a local copy `hpdv3:folder/test.json`."
        }
    )
    output: str = field(default="judge_eval.json", metadata={"help": "JSON file to write."})
    judge_store: str | None = field(
        default="judge.sqlite", metadata={"help": "SQLite file of answers: what is in it is not asked again."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of the dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split of the dataset."})
    limit: int | None = field(default=None, metadata={"help": "How many pairs to take. Unset, all of them."})
    ties: bool | None = field(
        default=None,
        metadata={"help": "Ask about pairs that people found level, too. Unset, of benchmarks that count them."},
    )
    price_in: float | None = field(default=None, metadata={"help": "Price of a million tokens in, for the cost."})
    price_out: float | None = field(default=None, metadata={"help": "Price of a million tokens out, for the cost."})
    compare: bool = field(
        default=False,
        metadata={"help": "Ask a second judge, given by `compare_*`, and test the difference (McNemar)."},
    )
    compare_judge_model: list[str] | None = field(
        default=None, metadata={"help": "Second judge. Unset, the same model."}
    )
    compare_base_url: list[str] | None = field(default=None, metadata={"help": "Its server. Unset, the same."})
    compare_api_key_env: str | None = field(
        default=None,
        metadata={"help": "Environment variable that holds its API key. Unset, the same key goes to its server."},
    )
    compare_rubric: list[str] | None = field(default=None, metadata={"help": "Its rubric. Unset, the same."})
    compare_judge_preset: list[str] | None = field(
        default=None, metadata={"help": "A published judge as the second one. Unset, what the first is."}
    )
    compare_judge_mode: str | None = field(default=None, metadata={"help": "How it is asked. Unset, the same."})
    compare_judge_decide: str | None = field(default=None, metadata={"help": "What decides. Unset, the same."})
    compare_judge_language: str | None = field(default=None, metadata={"help": "Its language. Unset, the same."})

    def second_judge(self) -> "JudgeEvalArguments":
        """
        The arguments of the judge to compare with.

        Raises:
            `ValueError`: when it would be the first one.
        """
        changed = {
            name.removeprefix("compare_"): value
            for name, value in vars(self).items()
            if name.startswith("compare_") and value is not None
        }
        # a published judge takes the place of a rubric, and the other way round
        if "judge_preset" in changed:
            changed = {"rubric": None, "judge_mode": "ranks", "judge_decide": "ranks"} | changed
        elif "rubric" in changed:
            changed = {"judge_preset": None} | changed
        second = replace(self, **changed)
        if second == self:
            raise ValueError("`compare` needs a second judge; set `compare_rubric` or another `compare_*`.")
        return second


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="arr-trl judge", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("eval", help="Measure a judge against labelled pairs.", add_help=False)
    commands.add_parser("log", help="Show or export what a verdict store holds.", add_help=False)
    commands.add_parser("tifa", help="Score pictures by questions about them (GenEval 2).", add_help=False)
    commands.add_parser("calibrate", help="Fit a judge's margins to labelled pairs.", add_help=False)
    commands.add_parser("list", help="The published judges and scorers there are.", add_help=False)
    commands.add_parser("show", help="What a published judge is asked, in full.", add_help=False)
    commands.add_parser("try", help="One verdict of a published judge on the screen.", add_help=False)
    commands.add_parser("references", help="Draw what `reference-yes` compares with, by the base.", add_help=False)
    commands.add_parser("train", help="Train a judge on labelled pairs.", add_help=False)
    commands.add_parser(
        "traces", help="Let models write reasons about pictures, and choose among them.", add_help=False
    )
    args, _ = parser.parse_known_args(argv[:1])
    run = {
        "eval": _eval,
        "log": _log,
        "tifa": run_tifa,
        "calibrate": run_calibrate,
        "list": run_list,
        "show": run_show,
        "try": run_try,
        "references": run_references,
        "train": run_train,
        "traces": run_traces,
    }
    return run[args.command](argv[1:])


def _eval(argv: list[str]) -> int:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    parser = TrlParser((JudgeEvalArguments,), prog="arr-trl judge eval", description="Measure a judge.")
    with explained():
        (args,) = parse(parser, argv)
        check_limit(args.limit)
        check_file(args.output)
        # the order is fixed, since each pair is shown in both as questions of their own
        judges = {"judge": build_judge(args, args.judge_store, order="fixed")}
        if args.compare:
            judges["compared"] = build_judge(args.second_judge(), args.judge_store, order="fixed")

        for judge in judges.values():
            check_pairs_suffice(judge)

        from ..data.preferences import benchmark_of, load_preferences
        from ..evaluation.judge_eval import evaluate_judge, mcnemar, pairs_for, print_summary, save_summary

        benchmark = benchmark_of(args.dataset)
        official = () if benchmark is None else benchmark.official
        ties = (benchmark is not None and benchmark.ties) if args.ties is None else args.ties
        asked_by = [part for judge in judges.values() for part in (*judge.rubrics, *judge.presets)]

        def pairs():  # the same for both judges
            read = load_preferences(args.dataset, args.dataset_config, args.dataset_split, ties=ties)
            return pairs_for(asked_by, read)

        sources = _sources_of_the_first(pairs())
        for judge in judges.values():  # before the first is paid for
            judge.check_for(2, sources)
        evaluations, summaries = {}, {}
        for name, judge in judges.items():
            evaluations[name] = evaluate_judge(judge, pairs(), args.limit)
            summaries[name] = evaluations[name].summary(args.price_in, args.price_out, official)
    summary: dict[str, Any] = {"dataset": args.dataset, **summaries["judge"]}
    if args.compare:
        right = [[o.right_in_both for o in evaluation.outcomes] for evaluation in evaluations.values()]
        summary |= {"compared": summaries["compared"], "mcnemar": mcnemar(*right)}
    save_summary(summary, args.output)
    print_summary(summaries)
    if args.compare:
        test = summary["mcnemar"]
        print(
            f"Right in both orders only by the judge: {test['only_first']} pairs, only by the compared one: "
            f"{test['only_second']} pairs; McNemar's exact p = {test['p_value']:.3g}."
        )
    for sentence in evaluations["judge"].skipped[:3]:
        print(f"Left out: {sentence}")
    print(f"Wrote {args.output}.")
    for name, evaluation in evaluations.items():
        _tell_failures(name, evaluation.failures, 2 * len(evaluation.outcomes), args.judge_store)
    return int(any(found["invalid_rate"] == 1 for found in summaries.values()))


def _sources_of_the_first(pairs: Iterable) -> int | None:
    """How many pictures a judge is shown beside the two of a pair; `None` where there are none, which the rubric may need."""
    from ..judges import JudgeRow

    first = next((pair for pair in pairs if not isinstance(pair, str)), None)
    return None if first is None else len(JudgeRow(first.prompt, first.images, first.source_image).sources) or None


def _tell_failures(name: str, failures: Counter, asked: int, store: str | None) -> None:
    """Why a judge gave no verdict, which a rate alone does not tell."""
    if not failures:
        return
    missing = failures.total()
    share = "on any pair" if missing == asked else f"for {missing} of {asked} questions"
    shown = f"; `arr-trl judge log {store} --status invalid` shows why" if store else ""
    ((reason, count),) = failures.most_common(1)
    print(f"arr-trl: the {name} gave no verdict {share}{shown}. Of {count} it is: {reason}", file=sys.stderr)


def _log(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="arr-trl judge log", description="Show or export what was asked and answered."
    )
    parser.add_argument("store", help="SQLite file of the judge, such as outputs/run/judge.sqlite.")
    parser.add_argument("--output", help="File to export all questions to, .jsonl or .parquet.")
    parser.add_argument("--status", choices=["answered", "invalid", "failed"], help="Only questions with this status.")
    parser.add_argument("--limit", type=int, default=20, help="How many of the latest questions to show.")
    args = parser.parse_args(argv)
    with explained():
        check_limit(args.limit)
        if not Path(args.store).is_file():
            raise FileNotFoundError(f"There is no verdict store at {args.store}; a run writes one as `judge.sqlite`.")
        with open(args.store, "rb") as file:
            if file.read(15) != b"SQLite format 3":
                raise ValueError(f"{args.store} is not a verdict store, which is a SQLite file.")
        if args.output is not None and Path(args.output).suffix not in (".jsonl", ".parquet"):
            raise ValueError(f"{args.output} does not end in .jsonl or .parquet, the formats of the export.")
        if args.output is not None:
            check_file(args.output)

        from ..judges import VerdictStore

        answers = [a for a in VerdictStore(args.store) if args.status in (None, a.status)]
    if args.output is not None:
        _export(answers, args.output)
        print(f"Wrote {len(answers)} questions to {args.output}.")
        return 0
    _show(answers[-args.limit :], len(answers))
    return 0


def _export(answers: list, path: str) -> None:
    import json

    rows = [asdict(answer) for answer in answers]
    if path.endswith(".jsonl"):
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return
    from datasets import Dataset

    for row in rows:  # columns of one type, also where every value is missing
        row["choice_logprobs"] = None if row["choice_logprobs"] is None else json.dumps(row["choice_logprobs"])
    Dataset.from_list(rows).to_parquet(path)


def _show(answers: list, total: int) -> None:
    import datetime

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"The latest {len(answers)} of {total} questions", title_justify="left", expand=True)
    table.add_column("time", width=10)
    table.add_column("status", no_wrap=True)
    table.add_column("model", max_width=11, overflow="fold")
    table.add_column("prompt", ratio=1, overflow="fold")
    table.add_column("order", no_wrap=True)
    table.add_column("answer", ratio=2, overflow="fold")  # JSON, which has few places to break at
    for answer in answers:
        said = answer.problem or answer.reply or str(answer.choice_logprobs)
        table.add_row(
            datetime.datetime.fromtimestamp(answer.created_at).strftime("%Y-%m-%d %H:%M:%S"),
            answer.status,
            escape("\n".join(filter(None, (answer.model, answer.server)))),
            escape(answer.prompt),
            " ".join(str(position + 1) for position in answer.positions),
            escape(said[:300]),
        )
    Console().print(table)
