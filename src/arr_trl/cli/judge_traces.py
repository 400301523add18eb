"""`arr-trl judge traces`: what models write about pictures, checked by another, as data for a judge that gives reasons."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..folders import check_writable
from .arguments import explained, parse
from .checks import check_limit
from .judge_arguments import JudgeArguments, named_chat_model
from .shown import print_request


if TYPE_CHECKING:
    from ..chat import ChatModel
    from ..judge_training.traces import TraceOutcome
    from ..judges import JudgeRow


@dataclass(kw_only=True)
class TracesArguments(JudgeArguments):
    """What `arr-trl judge traces` takes. `judge_model` is the pool that writes traces, one or several."""

    dataset: str = field(
        metadata={
            "help": "Pictures: labelled pairs in any layout that is read, both pictures of each, whose labels are not used."
        }
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of the dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split of the dataset."})
    limit: int | None = field(default=None, metadata={"help": "How many pairs to take. Unset, all of them."})
    output: str = field(default="traces", metadata={"help": "Folder for the dataset, and for the answers so far."})
    temperatures: list[float] = field(
        default_factory=lambda: [0.7, 1.0], metadata={"help": "Temperatures at which each of the pool writes."}
    )
    samples: int = field(default=1, metadata={"help": "Traces of each model at each temperature."})
    seed: int = field(default=0, metadata={"help": "Seed of the samples."})
    verifier_model: str | None = field(
        default=None, metadata={"help": "Name of the model that checks the points. Unset, the first of the pool."}
    )
    verifier_base_url: str | None = field(default=None, metadata={"help": "Its server. Unset, that of the first."})
    verifier_api_key_env: str | None = field(
        default=None, metadata={"help": "Environment variable with its API key. Unset, the same."}
    )
    price_in: float | None = field(default=None, metadata={"help": "Price of a million tokens in, for the cost."})
    price_out: float | None = field(default=None, metadata={"help": "Price of a million tokens out, for the cost."})
    dry_run: bool = field(
        default=False, metadata={"help": "Print how much there is to do and the first questions, and ask nothing."}
    )


def run(argv: list[str]) -> int:
    """Write the traces; 0 for success, 1 when there are none."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    parser = TrlParser((TracesArguments,), prog="arr-trl judge traces", description=__doc__)
    with explained():
        (args,) = parse(parser, argv)
        check_limit(args.limit)
        if not args.judge_model or len(args.judge_preset or []) != 1:
            raise ValueError("Traces need `judge_model`, who writes them, and one `judge_preset`, what is asked.")

        from ..autorubric.progress import RunProgress
        from ..judge_training.traces import TraceMaker, check_traced
        from ..judges import StoreError, VerdictStore, load_preset

        preset = load_preset(args.judge_preset[0])
        check_traced(preset)
        pool, verifier = _pool(args), _verifier(args)
        rows = list(_rows(args))
        if preset.task == "image-editing" and any(not row.sources for row in rows):
            raise ValueError(f"A pair has no source image, which the preset {preset.name} shows: it judges edits.")
        settings = (args.temperatures, args.samples, args.seed)
        store = Path(args.output, "answers.sqlite")
        maker = TraceMaker(preset, pool[0], pool, verifier, VerdictStore(None), *settings)
        if args.dry_run:
            _print_plan(maker, rows)
            return 0
        check_writable(args.output, "output")
        for model in {id(model): model for model in (*pool, verifier)}.values():
            model.check()
    progress = RunProgress(maker.planned(len(rows)), args.price_in, args.price_out)
    watched = [progress.watch(model) for model in pool]
    maker = TraceMaker(
        preset, watched[0], watched, progress.watch(verifier), VerdictStore(store), *settings, on_stage=progress.stage
    )
    try:
        with progress:
            outcomes = list(maker.make(rows))
    except StoreError as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    return _write(args, outcomes, maker, progress.cost)


def _write(args: TracesArguments, outcomes: "list[TraceOutcome]", maker, cost: dict) -> int:
    from ..judge_training.trace_data import write_traces

    chosen = [one.chosen for one in outcomes if one.chosen is not None]
    problems = Counter(one.problem.partition(":")[0] for one in outcomes if one.problem is not None)
    left_out = f"; left out: {', '.join(f'{n} {why}' for why, n in problems.items())}" if problems else ""
    read, asked = sum(one.read for one in outcomes), len(outcomes) * maker.traces_of_a_picture
    print(f"{len(chosen)} traces of {len(outcomes)} pictures, {read} of {asked} readable{left_out}.")
    print(", ".join(f"{name.replace('_', ' ')}: {value:,}" for name, value in cost.items()) + ".")
    if not chosen:
        reason = next((one.problem for one in outcomes if one.problem), "there is no picture")
        print(f"arr-trl: There is not one trace to learn from: {reason}", file=sys.stderr)
        return 1
    mean = sum(trace.accuracy for trace in chosen) / len(chosen)
    rows = write_traces(outcomes, Path(args.output), maker.preset)
    print(f"Wrote {rows} rows to {args.output}; those chosen agree with the verifier on {mean:.1%} of the points.")
    return 0


def _pool(args: TracesArguments) -> "list[ChatModel]":
    urls = args.base_url or [None]
    if len(urls) not in (1, len(args.judge_model)):
        raise ValueError(
            f"base_url has {len(urls)} values for {len(args.judge_model)} models; give one, or one for each."
        )
    urls = urls * (len(args.judge_model) // len(urls))
    return [named_chat_model(args, name, url) for name, url in zip(args.judge_model, urls, strict=True)]


def _verifier(args: TracesArguments) -> "ChatModel":
    key = args.verifier_api_key_env or args.api_key_env
    url = args.verifier_base_url or (args.base_url or [None])[0]
    return named_chat_model(replace(args, api_key_env=key), args.verifier_model or args.judge_model[0], url)


def _rows(args: TracesArguments) -> "Iterator[JudgeRow]":
    """Every picture of the pairs by itself."""
    from ..data.preferences import Preference, load_preferences
    from ..judges import JudgeRow

    pairs = load_preferences(args.dataset, args.dataset_config, args.dataset_split, ties=True)
    for pair in islice((pair for pair in pairs if isinstance(pair, Preference)), args.limit):
        for image in pair.images:
            yield replace(JudgeRow.of(pair), images=(image,))


def _print_plan(maker, rows: "list[JudgeRow]") -> None:
    from ..judge_training.traces import gold_question
    from ..judges.preset_questions import Asking, Pictures, edited

    for name, (_, most) in maker.planned(len(rows)).items():
        print(f"{name}: at most {most} questions")
    if not rows:
        return
    row, before, pictures = rows[0], maker.preset.before, Pictures(maker.preset.image)
    asking = Asking(maker.preset, maker.writer, maker.seed)
    points = [{"question": "Is the sky red?", "category": before.read.principles[0]}]
    questions = (
        ("points", asking.question(before, row, edited(row), 0, None, None, pictures), maker.writer),
        ("verify, after points such as this", gold_question(maker.verifier, row, points), maker.verifier),
    )
    for what, question, model in questions:
        print(f"\n--- {what}: request to {model.model} ---")
        print_request(question.request())
