"""`arr-trl judge log`: what a judge was asked and what it answered, from its store."""

import argparse
import datetime
import json
from dataclasses import asdict
from pathlib import Path

from .arguments import explained
from .checks import check_file, check_limit
from .shown import print_stored


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="arr-trl judge log", description="Show or export what was asked and answered."
    )
    parser.add_argument("store", help="SQLite file of the judge, such as outputs/run/judge.sqlite.")
    parser.add_argument("--output", help="File to export all questions to, .jsonl or .parquet.")
    parser.add_argument("--status", choices=["answered", "invalid", "failed"], help="Only questions with this status.")
    parser.add_argument("--prompt", help="Only questions whose prompt has these words, each in full with its reply.")
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

        store = VerdictStore(args.store)
        answers = [a for a in store if args.status in (None, a.status) and (args.prompt or "") in a.prompt]
    if args.output is not None:
        _export(answers, args.output)
        print(f"Wrote {len(answers)} questions to {args.output}.")
        return 0
    if args.prompt is None:
        _show(answers[-args.limit :], len(answers))
        return 0
    for answer in answers[-args.limit :]:
        print_stored(answer, store.rubric(answer.rubric))
    print(f"{len(answers)} questions are about {args.prompt!r}.")
    return 0


def _export(answers: list, path: str) -> None:
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
