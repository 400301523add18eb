"""`arr-trl rpo`: train, evaluate, and write the release. The same steps stand in examples/scripts/rpo_flux.py."""

import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from transformers.utils import logging as transformers_logging

from ..folders import check_writable
from .arguments import TINY_SCENES, TINY_SCENES_EDIT, explained, parse
from .functions import import_functions
from .judge_arguments import JudgeArguments, build_judge
from .launch import LAUNCH_HELP, OPTION, launch, split_options


if TYPE_CHECKING:
    from peft import LoraConfig

    from ..trainer import RPOConfig, RPOTrainer


@dataclass
class RPOScriptArguments(JudgeArguments):
    """
    What `arr-trl rpo` takes beside [`RPOConfig`]. The name `tiny_scenes` stands for the world that ships with the
    package, wherever a model, a dataset or a judge is asked for; `tiny_scenes_edit` for the model and the dataset of its
    edits.
    """

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Model id on the Hub or folder of the pipeline to train."}
    )
    dataset_name: list[str] | None = field(
        default=None,
        metadata={
            "help": "Prompts: a dataset on the Hub, a local .jsonl, .json, .csv, .parquet or .txt file, or a folder of "
            "such files or of pictures with metadata. Several make one dataset."
        },
    )
    dataset_weights: list[float] | None = field(
        default=None,
        metadata={
            "help": "How often each of several datasets is drawn from. Unset, every prompt comes once, one dataset "
            "after the other."
        },
    )
    data_files: list[str] | None = field(
        default=None,
        metadata={"help": "Files of the dataset to read, as paths, patterns or URLs. Unset, those its card names."},
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of the dataset."})
    dataset_split: str = field(default="train", metadata={"help": "Split to train on."})
    dataset_streaming: bool = field(
        default=False, metadata={"help": "Stream the prompts instead of downloading them."}
    )
    eval_dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Prompts to evaluate on, with `eval_dataset_split`. Unset, the same dataset as for training."
        },
    )
    eval_dataset_split: str | None = field(
        default=None, metadata={"help": "Split to evaluate on, `train` for a file. Unset, there is no evaluation."}
    )
    prompt_column: str = field(default="prompt", metadata={"help": "Column that holds the prompts."})
    source_column: str | None = field(
        default=None,
        metadata={"help": "Column that holds the pictures to edit. Unset, `source_image` if there is one."},
    )

    judge_order: str = field(
        default="both",
        metadata={
            "help": "Order in which the judge sees two candidates: `both` asks twice and takes disagreement as a tie.",
            "choices": ["both", "random", "fixed"],
        },
    )
    judge_store: str | None = field(
        default=None,
        metadata={"help": "SQLite file that keeps every verdict. Unset, `judge.sqlite` in the output folder."},
    )
    judge_max_failure_rate: float = field(
        default=0.5,
        metadata={"help": "Share of comparisons without a verdict above which training stops; 1 never stops."},
    )
    judge_failure_window: int = field(
        default=128, metadata={"help": "Number of latest comparisons that the share is taken over."}
    )
    reward_funcs: list[str] | None = field(
        default=None,
        metadata={"help": "Further reward functions as dotted paths, such as `my_package.rewards.sharpness`."},
    )
    eval_funcs: list[str] | None = field(
        default=None, metadata={"help": "Ground truths for the evaluation as dotted paths."}
    )

    lora_r: int | None = field(default=None, metadata={"help": "Rank of the adapter, 16 by default."})
    lora_alpha: int | None = field(default=None, metadata={"help": "Alpha of the adapter, 32 by default."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Modules that get an adapter. Unset, those of the family's published adapter."}
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("dataset_name", "dataset_weights", "data_files", "reward_funcs", "eval_funcs"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, list):  # as YAML has a single one
                setattr(self, name, [value])


def run(argv: list[str]) -> int:
    # what transformers and TRL say to each other while loading (deprecated names, optional packages) is not for users
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    from safetensors import SafetensorError
    from trl import TrlParser

    from ..data import RowError, StreamError
    from ..judges import JudgeFailureError, StoreError
    from ..release import PushError
    from ..trainer import CheckpointError, RewardError, RPOConfig

    parser = TrlParser(
        (RPOScriptArguments, RPOConfig), prog="arr-trl rpo", description="Train with RPO.", epilog=LAUNCH_HELP
    )
    if OPTION in argv:
        with explained():
            argv, of_launcher = split_options(parser, argv)
            parse(parser, argv)  # what is wrong with them is said once, not by every process
        return launch("rpo", argv, of_launcher)
    with explained(CheckpointError):
        script_args, training_args = parse(parser, argv)
        trainer = build_trainer(script_args, training_args)
    transformers_logging.set_verbosity(verbosity)
    if trainer.is_world_process_zero():
        print(trainer.batch_arithmetic())
    try:
        trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    except (CheckpointError, JudgeFailureError, RewardError, RowError, StoreError, StreamError) as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    try:
        _write_release(trainer, script_args.dataset_name)
    except (RewardError, StoreError) as error:  # in the evaluation; what was trained is written already
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    except (OSError, SafetensorError) as error:
        print(
            f"arr-trl: {training_args.output_dir} could not be written to: {error}. The trained adapter is in "
            f"{trainer.last_checkpoint or 'no checkpoint'}.",
            file=sys.stderr,
        )
        return 1
    push = None
    try:
        if training_args.push_to_hub:
            # saves and writes the card again, so that whoever calls it alone pushes what was trained
            push = trainer.push_to_hub(dataset_name=_on_the_hub(script_args.dataset_name))
    except PushError as error:
        print(f"arr-trl: {error}", file=sys.stderr)
        return 1
    if push is not None:
        print(f"Pushed to {push.commit_url}")
    # a process that leaves the group open may abort while it exits, which its launcher takes for a failure
    trainer.accelerator.end_training()
    return 0


def _on_the_hub(names: list[str]) -> list[str]:
    return [name for name in names if name not in (TINY_SCENES, TINY_SCENES_EDIT) and not Path(name).exists()]


def _write_release(trainer: "RPOTrainer", dataset_names: list[str]) -> None:
    training_args = trainer.args
    trainer.save_model(_internal_call=True)  # `_internal_call`: the push waits for evaluation and card
    if trainer.eval_dataset is not None:
        trainer.evaluate()
    trainer.save_state()
    trainer.create_model_card(dataset_name=_on_the_hub(dataset_names))
    if not trainer.is_world_process_zero():
        return
    written = [trainer.adapter_folder.name, "README.md"]
    if trainer.evaluation is not None:
        from ..evaluation import print_table

        trainer.evaluation.save(Path(training_args.output_dir) / "results.json")
        print_table(trainer.evaluation)
        written += ["samples.png", "results.json"]
    print(f"Wrote {', '.join(written[:-1])} and {written[-1]} to {training_args.output_dir}.")


def build_trainer(script_args: RPOScriptArguments, training_args: "RPOConfig") -> "RPOTrainer":
    """The trainer of a run; everything that can be wrong with its input is found here, before weights are read."""
    # what costs nothing comes first
    if script_args.model_name_or_path is None or script_args.dataset_name is None:
        raise ValueError("`model_name_or_path` and `dataset_name` are needed: what is trained, and on which prompts.")
    if script_args.eval_dataset_split is None:
        asked = f"eval_strategy={training_args.eval_strategy.value}" if training_args.eval_strategy != "no" else None
        if script_args.eval_dataset_name is not None:
            asked = f"eval_dataset_name={script_args.eval_dataset_name}"
        if asked is not None:
            raise ValueError(
                f"{asked} needs `eval_dataset_split`, without which there is no evaluation; a file has one split, `train`."
            )
    check_writable(training_args.output_dir, "output_dir")
    reward_funcs = import_functions(script_args.reward_funcs)
    eval_funcs = import_functions(script_args.eval_funcs)
    if script_args.judge_model is not None:
        judge = build_judge(
            script_args,
            store=script_args.judge_store or Path(training_args.output_dir) / "judge.sqlite",
            order=script_args.judge_order,
            max_failure_rate=script_args.judge_max_failure_rate,
            failure_window=script_args.judge_failure_window,
            seed=training_args.seed,
        )
        reward_funcs.insert(0, judge)
    if not reward_funcs:
        raise ValueError("There is no reward: give `judge_model` with `rubric` and `base_url`, or `reward_funcs`.")

    from ..data import load_prompts
    from ..trainer import RPOTrainer

    def load(names: list[str], split: str, streaming: bool = False, **choice):
        if names in ([TINY_SCENES], [TINY_SCENES_EDIT]):
            from ..tiny_scenes import edit_prompts, prompts

            return prompts(split) if names == [TINY_SCENES] else edit_prompts(split)
        columns = {"prompt_column": script_args.prompt_column, "source_column": script_args.source_column}
        return load_prompts(names, script_args.dataset_config, split, streaming, **columns, **choice)

    eval_split = script_args.eval_dataset_split
    eval_name = script_args.eval_dataset_name
    eval_names = script_args.dataset_name if eval_name is None else [eval_name]
    model = script_args.model_name_or_path
    if model in (TINY_SCENES, TINY_SCENES_EDIT):
        from ..tiny_scenes import BASE_MODEL, EDIT_BASE_MODEL

        model = str(BASE_MODEL if model == TINY_SCENES else EDIT_BASE_MODEL)
    return RPOTrainer(
        model=model,
        reward_funcs=reward_funcs,
        args=training_args,
        train_dataset=load(
            script_args.dataset_name,
            script_args.dataset_split,
            script_args.dataset_streaming,
            data_files=script_args.data_files,
            weights=script_args.dataset_weights,
            seed=training_args.seed,
        ),
        eval_dataset=load(eval_names, eval_split) if eval_split else None,
        eval_funcs=eval_funcs,
        peft_config=lora_config(script_args, training_args),
    )


def lora_config(script_args: RPOScriptArguments, training_args: "RPOConfig") -> "LoraConfig | None":
    """
    The adapter to train; `None` where `adapter_path` brings one along.

    Raises:
        `ValueError`: when both say how it looks.
    """
    from peft import LoraConfig

    names = ("lora_r", "lora_alpha", "lora_target_modules")
    given = [name for name in names if getattr(script_args, name) is not None]
    if training_args.adapter_path is not None:
        if given:
            raise ValueError(f"`adapter_path` names an adapter with a configuration of its own; leave out {given[0]}.")
        return None
    settings = {"lora_r": 16, "lora_alpha": 32} | {name: getattr(script_args, name) for name in given}
    return LoraConfig(
        **{name if name == "lora_alpha" else name.removeprefix("lora_"): v for name, v in settings.items()}
    )
