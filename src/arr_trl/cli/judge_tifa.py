"""`arr-trl judge tifa`: Soft-TIFA of pictures by a vision model, as GenEval 2 measures them."""

from dataclasses import dataclass, field

from .arguments import explained, parse
from .checks import check_file, check_limit
from .judge_arguments import JudgeArguments, build_chat_model


@dataclass(kw_only=True)
class TifaArguments(JudgeArguments):
    """What `arr-trl judge tifa` takes. Of the options of a judge those of its model and server count, and no rubric."""

    images: str = field(metadata={"help": "JSON file: an object of prompts and the paths of their pictures."})
    dataset: str = field(
        default="geneval2", metadata={"help": "`geneval2`, with a local copy `geneval2:geneval2_data.jsonl`."}
    )
    output: str = field(default="soft_tifa.json", metadata={"help": "JSON file to write."})
    judge_store: str | None = field(
        default="judge.sqlite", metadata={"help": "SQLite file of answers: what is in it is not asked again."}
    )
    limit: int | None = field(default=None, metadata={"help": "How many prompts to take. Unset, all of them."})


def run(argv: list[str]) -> int:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    parser = TrlParser((TifaArguments,), prog="arr-trl judge tifa", description="Soft-TIFA of pictures.")
    with explained():
        (args,) = parse(parser, argv)
        check_limit(args.limit)
        check_file(args.output)
        model = build_chat_model(args)

        from ..data.prompt_sets import load_prompt_set
        from ..evaluation.judge_eval import save_summary
        from ..evaluation.tifa import evaluate_tifa, read_pictures
        from ..judges.soft_tifa import SoftTIFA

        name, _, copy = args.dataset.partition(":")
        rows = load_prompt_set(name, copy or None)
        if "vqa_list" not in rows.column_names:
            raise ValueError(f"{name} has no questions about its pictures; `geneval2` has.")
        pictures = read_pictures(args.images)
        scorer = SoftTIFA(model, store=args.judge_store)
        scorer.check()
        rows = rows.select(range(min(len(rows), args.limit or len(rows))))
        summary = {"dataset": args.dataset, **evaluate_tifa(scorer, rows, pictures)}
    save_summary(summary, args.output)
    _print(summary)
    print(f"Wrote {args.output}.")
    return 0


def _print(summary: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    answered = summary["prompts"] - summary["missing"]
    table = Table(title=f"Soft-TIFA of {answered} pictures, {summary['missing']} missing", title_justify="left")
    table.add_column("figure [95% interval]".replace("[", "\\["))
    table.add_column("value", justify="right")
    for name in ("am", "gm"):
        value, interval = summary[f"soft_tifa_{name}"], summary[f"soft_tifa_{name}_ci"]
        told = "–" if value is None else f"{value:.3f}"
        table.add_row(
            f"Soft-TIFA {name.upper()}", told + ("" if interval is None else " \\[{:.3f}, {:.3f}]".format(*interval))
        )
    table.add_section()
    for heading, some in (("{}, AM", summary["skills"]), ("{} atoms, GM", summary["atom_counts"])):
        for name, value in some.items():
            table.add_row(heading.format(name), f"{value:.3f}")
    Console().print(table, highlight=False)
