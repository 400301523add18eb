"""`arr-trl judge eval`: how far a judge can be trusted. `arr-trl judge log`: what it was asked and what it answered."""

import argparse
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .rpo import TINY_SCENES, explained


@dataclass
class JudgeEvalArguments:
    """What `arr-trl judge eval` takes. Fields that begin with `compare_` make a second judge on the same pairs."""

    dataset: str = field(
        metadata={
            "help": "Labelled pairs: a .jsonl, .json or .parquet file, or a dataset on the Hub, which is streamed."
        }
    )
    judge_model: str = field(metadata={"help": "Name of the model that judges, or `tiny_scenes`."})
    rubric: str = field(
        metadata={
            "help": "The rubric: a .json or .txt file, a repository on the Hub, or `auto` for criteria per prompt."
        }
    )
    output: str = field(default="judge_eval.json", metadata={"help": "JSON file to write."})
    base_url: str | None = field(
        default=None, metadata={"help": "URL of an OpenAI-compatible server, such as http://localhost:8000/v1."}
    )
    api_key_env: str = field(
        default="OPENAI_API_KEY", metadata={"help": "Environment variable that holds the API key, if one is needed."}
    )
    mode: str = field(
        default="ranks",
        metadata={"help": "How the judge is asked.", "choices": ["ranks", "choice", "pointwise"]},
    )
    decide: str = field(
        default="ranks",
        metadata={"help": "Whether overall ranks or summed criteria decide.", "choices": ["ranks", "criteria"]},
    )
    language: str = field(default="en", metadata={"help": "Language of the prompt.", "choices": ["en", "zh"]})
    store: str | None = field(
        default="judge.sqlite", metadata={"help": "SQLite file of answers: what is in it is not asked again."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of the dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split of the dataset."})
    limit: int | None = field(default=None, metadata={"help": "How many pairs to take. Unset, all of them."})
    price_in: float | None = field(default=None, metadata={"help": "Price of a million tokens in, for the cost."})
    price_out: float | None = field(default=None, metadata={"help": "Price of a million tokens out, for the cost."})
    compare: bool = field(
        default=False,
        metadata={"help": "Ask a second judge, given by `compare_*`, and test the difference (McNemar)."},
    )
    compare_judge_model: str | None = field(default=None, metadata={"help": "Second judge. Unset, the same model."})
    compare_base_url: str | None = field(default=None, metadata={"help": "Its server. Unset, the same."})
    compare_rubric: str | None = field(default=None, metadata={"help": "Its rubric. Unset, the same."})
    compare_mode: str | None = field(default=None, metadata={"help": "How it is asked. Unset, the same."})


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="arr-trl judge", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("eval", help="Measure a judge against labelled pairs.", add_help=False)
    commands.add_parser("log", help="Show or export what a verdict store holds.", add_help=False)
    args, _ = parser.parse_known_args(argv[:1])
    return (_eval if args.command == "eval" else _log)(argv[1:])


def _eval(argv: list[str]) -> int:
    from trl import TrlParser

    parser = TrlParser((JudgeEvalArguments,), prog="arr-trl judge eval", description="Measure a judge.")
    with explained():
        (args,) = parser.parse_args_and_config(argv)
        judges = {"judge": _judge(args, args.judge_model, args.base_url, args.rubric, args.mode)}
        if args.compare:
            second = {
                "model": args.compare_judge_model or args.judge_model,
                "base_url": args.compare_base_url or args.base_url,
                "rubric": args.compare_rubric or args.rubric,
                "mode": args.compare_mode or args.mode,
            }
            first = {"model": args.judge_model, "base_url": args.base_url, "rubric": args.rubric, "mode": args.mode}
            if first == second:
                raise ValueError("`compare` needs a second judge; set `compare_rubric` or another `compare_*`.")
            judges["compared"] = _judge(args, **second)

        from ..data.preferences import load_preferences
        from ..evaluation.judge_eval import evaluate_judge, mcnemar, print_summary, save_summary

        evaluations, summaries = {}, {}
        for name, judge in judges.items():
            judge.check()
            pairs = load_preferences(args.dataset, args.dataset_config, args.dataset_split)
            evaluations[name] = evaluate_judge(judge, pairs, args.limit)
            summaries[name] = evaluations[name].summary(args.price_in, args.price_out)
    print_summary(summaries)
    summary: dict[str, Any] = {"dataset": args.dataset, **summaries["judge"]}
    if args.compare:
        right = [[o.right_in_both for o in evaluation.outcomes] for evaluation in evaluations.values()]
        summary |= {"compared": summaries["compared"], "mcnemar": mcnemar(*right)}
        test = summary["mcnemar"]
        print(
            f"Right in both orders only by the judge: {test['only_first']} pairs, only by the compared one: "
            f"{test['only_second']} pairs; McNemar's exact p = {test['p_value']:.3g}."
        )
    for sentence in evaluations["judge"].skipped[:3]:
        print(f"Left out: {sentence}")
    save_summary(summary, args.output)
    print(f"Wrote {args.output}.")
    return 0


def _judge(args: JudgeEvalArguments, model: str, base_url: str | None, rubric: str, mode: str):
    from ..judges import RubricJudge

    chat_model: Any = model
    if model == TINY_SCENES:
        from ..tiny_scenes import TinyScenesJudge

        chat_model, base_url = TinyScenesJudge(), None
    return RubricJudge(
        rubric=rubric,
        model=chat_model,
        base_url=base_url,
        api_key=os.environ.get(args.api_key_env),
        mode=mode,
        order="fixed",
        decide=args.decide,
        language=args.language,
        store=args.store,
    )


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
        if not Path(args.store).is_file():
            raise FileNotFoundError(f"There is no verdict store at {args.store}; a run writes one as `judge.sqlite`.")
        with open(args.store, "rb") as file:
            if file.read(15) != b"SQLite format 3":
                raise ValueError(f"{args.store} is not a verdict store, which is a SQLite file.")
        if args.output is not None and Path(args.output).suffix not in (".jsonl", ".parquet"):
            raise ValueError(f"{args.output} does not end in .jsonl or .parquet, the formats of the export.")

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

    table = Table(title=f"The latest {len(answers)} of {total} questions", title_justify="left")
    for heading in ("time", "status", "model", "prompt", "order", "answer"):
        table.add_column(heading)
    for answer in answers:
        said = answer.problem or answer.reply or str(answer.choice_logprobs)
        table.add_row(
            datetime.datetime.fromtimestamp(answer.created_at).strftime("%Y-%m-%d %H:%M:%S"),
            answer.status,
            escape(answer.model),
            escape(answer.prompt),
            " ".join(str(position + 1) for position in answer.positions),
            escape(said[:300]),
        )
    Console().print(table)
