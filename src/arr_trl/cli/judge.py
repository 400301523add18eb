"""
`arr-trl judge eval`: how far a judge can be trusted. `arr-trl judge log`: what it was asked and what it answered.
`arr-trl judge ask`: one question and its reply in full. `arr-trl judge tifa`: questions about pictures. `arr-trl judge
calibrate`: a judge fitted to labels. `arr-trl judge list`, `show` and `try`: published judges. `arr-trl judge references`:
pictures that some of those compare with. `arr-trl judge train`: a judge that learns from labelled pairs. `arr-trl judge
traces`: reasons for it to learn from.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .arguments import TINY_SCENES, explained, parse
from .checks import check_file, check_limit, check_pairs_suffice
from .judge_arguments import JudgeArguments, build_judge
from .judge_ask import run as run_ask
from .judge_calibrate import run as run_calibrate
from .judge_log import run as run_log
from .judge_presets import run_list, run_show, run_try
from .judge_references import run as run_references
from .judge_tifa import run as run_tifa
from .judge_traces import run as run_traces
from .judge_train import run as run_train
from .shown import print_questions


_TINY_SCENES_PAIRS = 150  # as many as `arr-trl rubric` takes where nothing is said


@dataclass(kw_only=True)
class JudgeEvalArguments(JudgeArguments):
    """What `arr-trl judge eval` takes. Fields that begin with `compare_` make a second judge on the same pairs."""

    dataset: str = field(
        metadata={
            "help": "Labelled pairs: a .jsonl, .json or .parquet file, a dataset on the Hub, which is streamed, or a "
            "benchmark, such as `mmrb2-edit`, with a local copy `hpdv3:folder/test.json`; or `tiny_scenes`."
        }
    )
    output: str = field(
        default="judge_eval.json",
        metadata={"help": "JSON file to write; a page with every pair, up to 500, is put beside it as .html."},
    )
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
    dry_run: bool = field(default=False, metadata={"help": "Print the first question in full, and ask nothing."})
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
    commands.add_parser(
        "ask", help="Ask about pictures of yours, and show question and reply in full.", add_help=False
    )
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
        "log": run_log,
        "ask": run_ask,
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
        if not args.dry_run:  # which leaves nothing behind
            check_file(args.output)
        # the order is fixed, since each pair is shown in both as questions of their own
        judges = {"judge": build_judge(args, args.judge_store, order="fixed")}
        if args.compare:
            judges["compared"] = build_judge(args.second_judge(), args.judge_store, order="fixed")

        for judge in judges.values():
            check_pairs_suffice(judge)

        from ..autorubric.holdout import judge_rows
        from ..data.preferences import benchmark_of, load_preferences
        from ..evaluation.judge_eval import (
            evaluate_judge,
            mcnemar,
            pairs_for,
            print_summary,
            save_summary,
            write_judge_report,
        )
        from ..evaluation.judge_report import JudgeReport, record_of_both
        from ..judges import EnsembleJudge

        benchmark = benchmark_of(args.dataset)
        official = () if benchmark is None else benchmark.official
        ties = (benchmark is not None and benchmark.ties) if args.ties is None else args.ties
        asked_by = [part for judge in judges.values() for part in (*judge.rubrics, *judge.presets)]

        def pairs():  # the same for both judges
            if args.dataset == TINY_SCENES:
                from ..tiny_scenes import preferences

                read = preferences(args.limit or _TINY_SCENES_PAIRS)
            else:
                read = load_preferences(args.dataset, args.dataset_config, args.dataset_split, ties=ties)
            return pairs_for(asked_by, read)

        if args.dry_run:
            first = next((pair for pair in pairs() if not isinstance(pair, str)), None)
            if first is None:
                raise ValueError(f"{args.dataset} holds no pair that can be used.")
            print_questions(judges["judge"], judge_rows([first])[0])
            return 0
        sources = _sources_of_the_first(pairs())
        for judge in judges.values():  # before the first is paid for
            judge.check_for(2, sources)
        evaluations, summaries = {}, {}
        report = JudgeReport(placed=not isinstance(judges["judge"], EnsembleJudge))  # whose words are of several

        def shown(pair, forward, swapped):
            report.add(pair, record_of_both(forward, swapped))

        for name, judge in judges.items():
            evaluations[name] = evaluate_judge(judge, pairs(), args.limit, shown if name == "judge" else None)
            summaries[name] = evaluations[name].summary(args.price_in, args.price_out, official)
    summary: dict[str, Any] = {"dataset": args.dataset, **summaries["judge"]}
    if args.compare:
        right = [[o.right_in_both for o in evaluation.outcomes] for evaluation in evaluations.values()]
        summary |= {"compared": summaries["compared"], "mcnemar": mcnemar(*right)}
    save_summary(summary, args.output)
    page = Path(args.output).with_suffix(".html")
    write_judge_report(page, report, summaries["judge"], judges["judge"], args.dataset)
    print_summary(summaries)
    if args.compare:
        test = summary["mcnemar"]
        print(
            f"Right in both orders only by the judge: {test['only_first']} pairs, only by the compared one: "
            f"{test['only_second']} pairs; McNemar's exact p = {test['p_value']:.3g}."
        )
    for sentence in evaluations["judge"].skipped[:3]:
        print(f"Left out: {sentence}")
    print(f"Wrote {args.output} and {page}.")
    for name, evaluation in evaluations.items():
        _tell_failures(name, evaluation.failures, 2 * len(evaluation.outcomes), args.judge_store)
    return int(any(found["invalid_rate"] == 1 for found in summaries.values()))


def _sources_of_the_first(pairs: Iterable) -> int | None:
    """How many pictures a judge is shown beside the two of a pair; `None` where there are none, which the rubric may need."""
    from ..judges import JudgeRow

    first = next((pair for pair in pairs if not isinstance(pair, str)), None)
    if first is None:
        return None
    row = JudgeRow.of(first)
    return len(row.sources) + (row.mask is not None) or None


def _tell_failures(name: str, failures: Counter, asked: int, store: str | None) -> None:
    """Why a judge gave no verdict, which a rate alone does not tell."""
    if not failures:
        return
    missing = failures.total()
    share = "on any pair" if missing == asked else f"for {missing} of {asked} questions"
    shown = f"; `arr-trl judge log {store} --status invalid` shows why" if store else ""
    ((reason, count),) = failures.most_common(1)
    print(f"arr-trl: the {name} gave no verdict {share}{shown}. Of {count} it is: {reason}", file=sys.stderr)
