"""`arr-trl evaluate`: base against adapters on a prompt set, with pictures, intervals and a report."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from ..folders import check_writable
from .arguments import TINY_SCENES, explained, parse
from .checks import check_limit
from .functions import import_functions
from .judge_arguments import JudgeArguments, build_judge


@dataclass
class EvaluateArguments(JudgeArguments):
    """What `arr-trl evaluate` takes. The name `tiny_scenes` stands for the world that ships with the package."""

    model: str | None = field(default=None, metadata={"help": "The base: a model id on the Hub or a folder."})
    dataset: str | None = field(
        default=None,
        metadata={
            "help": "Prompts: a .jsonl, .json, .csv, .parquet or .txt file, a dataset on the Hub, or a prompt set by its "
            "name, such as `geneval`."
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
    data_files: list[str] | None = field(
        default=None, metadata={"help": "Files of the dataset to read, or the local copy of a prompt set."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of the dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split of the dataset."})
    prompt_column: str = field(default="prompt", metadata={"help": "Column that holds the prompts."})
    source_column: str | None = field(default=None, metadata={"help": "Column that holds the pictures to edit."})
    limit: int | None = field(default=None, metadata={"help": "How many prompts to take. Unset, all of them."})

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

    height: int = field(default=512, metadata={"help": "Height of the pictures in pixels."})
    width: int = field(default=512, metadata={"help": "Width of the pictures in pixels."})
    num_inference_steps: int | None = field(
        default=None, metadata={"help": "Denoising steps. Unset, those that the model is recommended with."}
    )
    guidance_scale: float | None = field(
        default=None,
        metadata={"help": "Guidance, as in the pipeline's `__call__`. Unset, what the model is recommended with."},
    )
    max_sequence_length: int | None = field(
        default=None, metadata={"help": "Text tokens per prompt. Unset, what the pipeline's `__call__` takes."}
    )
    condition_size: int | None = field(
        default=None, metadata={"help": "Side of the square whose area sources of editing models are scaled to."}
    )
    negative_prompt: str | None = field(
        default=None, metadata={"help": "What classifier-free guidance leads away from. Unset, the family's default."}
    )
    num_images_per_prompt: int = field(
        default=2, metadata={"help": "Pictures of each prompt; 1 cannot show whether a model collapses."}
    )
    seed: int = field(default=1234, metadata={"help": "Seed of the noise; every model draws from the same."})
    batch_size: int = field(default=8, metadata={"help": "Pictures in one forward pass."})
    dtype: str | None = field(
        default=None,
        metadata={
            "help": "Precision of the base. Unset, bfloat16 on a GPU and float32 on a CPU.",
            "choices": ["bfloat16", "float16", "float32"],
        },
    )
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
        (args,) = parse(parser, argv)
        if args.model is None or args.dataset is None:
            raise ValueError("`model` and `dataset` are needed: the base, and the prompts.")
        check_limit(args.limit)
        check_writable(args.output, "output")
        if args.model == TINY_SCENES:
            from ..tiny_scenes import use_one_thread

            use_one_thread()
        store = args.judge_store or Path(args.output) / "judge.sqlite"
        judge = build_judge(args, store, order="both") if args.judge_model or args.judge_preset else None
        reward_funcs = import_functions(args.reward_funcs)
        eval_funcs = import_functions(args.eval_funcs)

        from ..evaluation.adapters import parse_adapters
        from ..evaluation.evaluate import Evaluator
        from ..evaluation.pictures import InferenceSettings
        from ..judges import StoreError
        from ..release import check_model_card

        adapters = parse_adapters(args.adapter or [])
        if args.update_card:
            for adapter in adapters:
                check_model_card(Path(adapter.path).parent)
        if judge is not None:
            judge.check()
        rows = _rows(args)
        names = ("num_inference_steps", "guidance_scale")
        given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
        settings = InferenceSettings(
            args.height, args.width, num_images_per_prompt=args.num_images_per_prompt, seed=args.seed, **given
        )
        policy = _policy(args)
        own = {name: getattr(policy, f"default_{name}") for name in names if name not in given}
        settings = replace(settings, **own)
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

    from ..evaluation.report import write_report
    from ..evaluation.summary import print_evaluation

    evaluation, pairs, _ = found
    write_report(args.output, evaluation, pairs, rows)
    print_evaluation(evaluation)
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


def _rows(args: EvaluateArguments) -> list[dict[str, Any]]:
    from itertools import islice

    from ..data import check_prompts, check_sources, load_prompts, undecoded
    from ..policies import policy_class_of
    from ..rewards import check_columns

    if args.dataset == TINY_SCENES:
        from ..tiny_scenes import prompts

        rows = prompts("test")
    else:
        rows = load_prompts(
            args.dataset,
            args.dataset_config,
            args.dataset_split,
            prompt_column=args.prompt_column,
            source_column=args.source_column,
            data_files=args.data_files,
        )
    check_prompts(rows, args.dataset)
    check_columns(rows.column_names or next(iter(rows)), args.dataset)
    rows = undecoded(rows)
    if policy_class_of(_base(args)).editing:
        check_sources(rows, args.dataset)
    return list(islice(rows, args.limit))


def _base(args: EvaluateArguments) -> str:
    if args.model != TINY_SCENES:
        return args.model
    from ..tiny_scenes import BASE_MODEL

    return str(BASE_MODEL)


def _policy(args: EvaluateArguments):
    import torch

    from ..policies import load_policy, read_dtype

    dtype = read_dtype(args.dtype or ("bfloat16" if torch.cuda.is_available() else "float32"))
    names = ("max_sequence_length", "condition_size", "negative_prompt")
    policy_kwargs = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return load_policy(_base(args), {"height": args.height, "width": args.width}, policy_kwargs, dtype=dtype)


def _update_cards(evaluation, adapters) -> None:
    from ..release import record_results

    for adapter in adapters:
        folder = Path(adapter.path)
        if adapter.subfolder is None and record_results(folder.parent, folder.name, evaluation.results(adapter.name)):
            print(f"Brought {folder.parent / 'README.md'} up to date.")
