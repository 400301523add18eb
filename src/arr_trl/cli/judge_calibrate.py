"""`arr-trl judge calibrate`: fit a judge's temperature and band of ties to labelled pairs."""

from dataclasses import dataclass, field

from .arguments import explained, parse
from .checks import check_file, check_limit, check_pairs_suffice
from .judge_arguments import JudgeArguments, build_judge


@dataclass(kw_only=True)
class CalibrateArguments(JudgeArguments):
    """What `arr-trl judge calibrate` takes. The judge is one that has margins: with `judge_mode=choice`, or a preset of scores."""

    pairs: str = field(
        metadata={"help": "Labelled pairs: a .jsonl, .json or .parquet file, a dataset on the Hub, or a benchmark."}
    )
    save: str = field(default="calibration.json", metadata={"help": "JSON file to write, for `judge_calibration`."})
    judge_store: str | None = field(
        default="judge.sqlite", metadata={"help": "SQLite file of answers: what is in it is not asked again."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of the dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split of the dataset."})
    limit: int | None = field(default=None, metadata={"help": "How many pairs to take. Unset, all of them."})


def run(argv: list[str]) -> int:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    parser = TrlParser((CalibrateArguments,), prog="arr-trl judge calibrate", description="Fit a judge to labels.")
    with explained():
        (args,) = parse(parser, argv)
        check_limit(args.limit)
        check_file(args.save)
        if args.judge_mode != "choice" and not args.judge_preset:
            raise ValueError(
                f"judge_mode={args.judge_mode} has no margins that could be fitted; a judge with judge_mode=choice has, and "
                "so has a `judge_preset` that scores each picture."
            )
        if args.judge_calibration is not None:
            raise ValueError("`judge_calibration` is what this command writes; leave it out.")
        judge = build_judge(args, args.judge_store, order="fixed")

        from ..data.preferences import load_preferences
        from ..evaluation.calibrate import calibrate
        from ..judges import EnsembleJudge, PresetJudge

        if isinstance(judge, EnsembleJudge):
            raise ValueError("Several judges are fitted one by one; give one `judge_model` and one `rubric`.")
        check_pairs_suffice(judge)
        judge.check_for(2)
        pairs = load_preferences(args.pairs, args.dataset_config, args.dataset_split, ties=True)
        before = judge.tie_margin if isinstance(judge, PresetJudge) else judge.mode.tie_margin
        calibration = calibrate(judge, pairs, args.limit, before)
        calibration.save(args.save)
    _print(calibration)
    print(f"Wrote {args.save}; `--judge_calibration {args.save}` judges by it.")
    return 0


def _print(calibration) -> None:
    from rich.console import Console
    from rich.table import Table

    found = calibration.measured
    table = Table(
        title=f"Fitted on {found['pairs_fitted_on']} pairs, measured on {found['pairs']} of other prompts",
        title_justify="left",
    )
    for heading, side in (("measure [95% interval]", "left"), ("before", "right"), ("calibrated", "right")):
        table.add_column(heading.replace("[", "\\["), justify=side)
    for name in ("accuracy", "coverage", "kappa", "log_loss"):
        table.add_row(name, *(_cell(found[which], name) for which in ("before", "calibrated")))
    Console().print(table, highlight=False)
    print(f"temperature {calibration.temperature:.3g}, tie margin {calibration.tie_margin:.3g}")


def _cell(measured: dict, name: str) -> str:
    value, interval = measured[name], measured.get(f"{name}_ci")
    if value is None:
        return "–"
    if interval is None:
        return f"{value:.3f}"
    return "{:.1f}% \\[{:.1f}, {:.1f}]".format(*(100 * v for v in (value, *interval)))
