"""`arr-trl evaluate`: base against adapters on a prompt set, with pictures, intervals and a report."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from transformers.utils import logging as transformers_logging

from ..adapter_names import ROOT
from ..folders import check_writable
from .arguments import TINY_SCENES, explained, parse
from .checks import check_limit
from .functions import import_functions
from .judge_arguments import JudgeArguments, build_judge
from .lines import say
from .picture_arguments import PictureArguments, load_pipeline_of, read_prompts, settings_of
from .run_file import with_run


@dataclass
class EvaluateArguments(PictureArguments, JudgeArguments):
    """What `arr-trl evaluate` takes. The name `tiny_scenes` stands for the world that ships with the package."""

    run: str | None = field(
        default=None,
        metadata={
            "help": "Output folder of a training run: its model, adapter, prompts, judge and sizes are taken where nothing else "
            "is given."
        },
    )
    output: str = field(
        default="evaluation", metadata={"help": "Folder for images, pairs.jsonl, results.json and report.html."}
    )
    adapter: list[str] | None = field(
        default=None,
        metadata={
            "help": "Adapters to compare with the base: folders or LoRA files, or `user/repo/subfolder` on the Hub."
        },
    )
    judge_model: list[str] | None = field(
        default=None,
        metadata={
            "help": "Name of the model that judges, or `tiny_scenes`. Several make an ensemble, and so do several "
            "rubrics. Unset, only reward functions and ground truths are measured.",
            "aliases": ["--judge"],
        },
    )
    judge_store: str | None = field(
        default=None, metadata={"help": "SQLite file of answers. Unset, `judge.sqlite` in the output folder."}
    )
    reward_funcs: list[str] | None = field(
        default=None, metadata={"help": "Further columns: reward functions as dotted paths."}
    )
    eval_funcs: list[str] | None = field(default=None, metadata={"help": "Ground truths as dotted paths."})
    num_images_per_prompt: int = field(
        default=2, metadata={"help": "Pictures of each prompt; 1 cannot show whether a model collapses."}
    )
    seed: int = field(default=1234, metadata={"help": "Seed of the noise; every model draws from the same."})
    update_card: bool = field(
        default=False,
        metadata={"help": "Write the results into the model card beside each local adapter, with its `model-index`."},
    )


def run(argv: list[str]) -> int:
    """Evaluate; returns 0 for success, 1 when the judge answered nothing, 2 for input that has to be changed."""
    transformers_logging.set_verbosity_error()  # what it says while it is imported is not for users
    from trl import TrlParser

    parser = TrlParser((EvaluateArguments,), prog="arr-trl evaluate", description="Compare a base with adapters.")
    with explained():
        (args,) = parse(parser, with_run(argv, {"judge": "judge_model"}))
        if args.model is None or args.dataset is None:
            raise ValueError(
                "`model` and `dataset` are needed, the base and the prompts; or `run`, the folder of a run."
            )
        check_limit(args.limit)
        check_writable(args.output, "output")
        if args.model == TINY_SCENES:
            from ..tiny_scenes import use_one_thread

            use_one_thread()
        store = args.judge_store or Path(args.output) / "judge.sqlite"
        judge = build_judge(args, store, order="both") if args.judge_model or args.judge_preset else None
        reward_funcs = import_functions(args.reward_funcs)
        eval_funcs = import_functions(args.eval_funcs)

        from ..data import sizes_of_rows
        from ..evaluation.adapters import parse_adapters
        from ..evaluation.evaluate import Evaluator
        from ..judges import StoreError
        from ..release import check_model_card

        adapters = parse_adapters(args.adapter or [])
        if args.update_card:
            for adapter in adapters:
                for folder, _ in _cards_of(adapter.path):
                    check_model_card(folder)
        if judge is not None:
            judge.check()
        prompts = read_prompts(args)
        rows = list(prompts)
        policy = load_pipeline_of(args, sizes_of_rows(prompts, args.dataset))
        settings = settings_of(args, policy, num_images_per_prompt=args.num_images_per_prompt, seed=args.seed)
        evaluator = Evaluator(
            policy,
            adapters,
            rows,
            args.output,
            settings,
            judge,
            reward_funcs,
            eval_funcs,
            args.batch_size,
            base_model=args.model,
        )
    try:
        found = evaluator.run()
    except StoreError as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    if found is None:  # another process writes what was found
        return 0

    from ..evaluation.answer import answers
    from ..evaluation.report import write_report
    from ..evaluation.summary import print_evaluation

    evaluation, pairs, _ = found
    write_report(args.output, evaluation, pairs, rows)
    print_evaluation(evaluation)
    for sentence in answers(evaluation):
        say(sentence)
    print(f"Wrote results.json, report.html, pairs.jsonl and images to {args.output}.")
    if args.update_card:
        _update_cards(evaluation, adapters)
    failed = [pair.failure for pair in pairs if pair.failure is not None]
    if judge is not None and pairs and len(failed) == len(pairs):
        print(
            f"arr-trl: The judge gave no verdict on any of the {len(pairs)} pairs; the last failure was: {failed[-1]} "
            "Repair the judge and run the same command again; the pictures are kept.",
            file=sys.stderr,
        )
        return 1
    return 0


def _update_cards(evaluation, adapters) -> None:
    from ..release import record_results

    for adapter in (adapter for adapter in adapters if adapter.subfolder is None):
        for folder, subfolder in _cards_of(adapter.path):
            if record_results(folder, subfolder, evaluation.results(adapter.name)):
                print(f"Brought {folder / 'README.md'} up to date.")


def _cards_of(adapter: str) -> list[tuple[Path, str]]:
    """Where a card may speak of an adapter, and what it calls it: above its folder, and beside its files."""
    return [(Path(adapter).parent, Path(adapter).name), (Path(adapter), ROOT)]
