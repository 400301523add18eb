"""The options that every trainer's command shares, and what they make: rewards, prompts, the adapter."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import TINY_SCENES, TINY_SCENES_EDIT
from .functions import import_functions
from .judge_arguments import JudgeArguments, as_tournament, build_judge


if TYPE_CHECKING:
    from peft import LoraConfig

    from ..judges import JudgeReward
    from ..trainer import FlowConfig


@dataclass
class TrainArguments(JudgeArguments):
    """
    What a command that trains takes beside the configuration of its trainer. The name `tiny_scenes` stands for the world
    that ships with the package, wherever a model, a dataset or a judge is asked for; `tiny_scenes_edit` for the model and
    the dataset of its edits.
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
    judge_pairs: str | None = field(
        default=None,
        metadata={
            "help": "Compare the candidates of a prompt two by two, and reward with win rates: `all` pairs, a `cycle`, or "
            "a number of opponents for each. Unset, the judge sees all at once."
        },
    )
    judge_criteria_dropout: float = field(
        default=0.0,
        metadata={
            "help": "Probability with which each criterion that is not essential is left out of a comparison in training."
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

    watch_funcs: list[str] | None = field(
        default=None,
        metadata={
            "help": "Functions or judges as dotted paths that are asked and not rewarded: where they part from the reward, "
            "it is gamed."
        },
    )

    lora_r: int | None = field(default=None, metadata={"help": "Rank of the adapter, 16 by default."})
    lora_alpha: int | None = field(default=None, metadata={"help": "Alpha of the adapter, 32 by default."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Modules that get an adapter. Unset, those of the family's published adapter."}
    )
    init_lora_weights: str | None = field(
        default=None,
        metadata={
            "help": "How the adapter's A begins, as PEFT names it: `gaussian`, say. Unset, as PEFT's default has it."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("dataset_name", "dataset_weights", "data_files", "reward_funcs", "eval_funcs", "watch_funcs"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, list):  # as YAML has a single one
                setattr(self, name, [value])
        self.judge_pairs = None if self.judge_pairs is None else str(self.judge_pairs)  # YAML has numbers


def build_training_judge(script_args: TrainArguments, training_args: "FlowConfig") -> "JudgeReward | None":
    """
    The judge of a run, which keeps its verdicts in the output folder unless `judge_store` says where.

    Args:
        script_args ([`TrainArguments`]): the options of the command.
        training_args ([`FlowConfig`]): the configuration of the trainer, for the output folder and the seed.

    Returns:
        [`~arr_trl.judges.JudgeReward`] or `None`: the judge, `None` without `judge_model` and `judge_preset`.

    Raises:
        `ValueError`: when its options are missing or contradict each other.
    """
    if script_args.judge_model is None and script_args.judge_preset is None:
        return None
    policy = {
        "max_failure_rate": script_args.judge_max_failure_rate,
        "failure_window": script_args.judge_failure_window,
        "seed": training_args.seed,
    }
    store = script_args.judge_store or Path(training_args.output_dir) / "judge.sqlite"
    judge = build_judge(
        script_args,
        store=store,
        order=script_args.judge_order,
        criteria_dropout=script_args.judge_criteria_dropout,
        **policy,
    )
    return as_tournament(judge, script_args.judge_pairs, **policy)


def build_rewards(script_args: TrainArguments, training_args: "FlowConfig") -> dict[str, list[Callable]]:
    """
    The judge and the functions that reward candidates, the ground truths of the evaluation, and what is only watched.

    Args:
        script_args ([`TrainArguments`]): the options of the command.
        training_args ([`FlowConfig`]): the configuration of the trainer, for the output folder and the seed.

    Returns:
        `dict[str, list[Callable]]`: `reward_funcs`, the judge first, `eval_funcs` and `watch_funcs`, as a trainer takes them.

    Raises:
        `ValueError`: when there is no reward, a function cannot be imported, or the judge's options contradict each other.
    """
    reward_funcs = import_functions(script_args.reward_funcs)
    eval_funcs = import_functions(script_args.eval_funcs)
    judge = build_training_judge(script_args, training_args)
    if judge is not None:
        reward_funcs.insert(0, judge)
    if not reward_funcs:
        raise ValueError(
            "There is no reward: give `judge_model` with `rubric` and `base_url`, `judge_preset`, or `reward_funcs`."
        )
    watch_funcs = import_functions(script_args.watch_funcs)
    return {"reward_funcs": reward_funcs, "eval_funcs": eval_funcs, "watch_funcs": watch_funcs}


def load_prompt_datasets(script_args: TrainArguments, training_args: "FlowConfig") -> dict[str, Any]:
    """
    The prompts to train and to evaluate on.

    Args:
        script_args ([`TrainArguments`]): the options of the command.
        training_args ([`FlowConfig`]): the configuration of the trainer, for the seed of the order.

    Returns:
        `dict[str, Any]`:
            `train_dataset`, a [`~datasets.Dataset`] or [`~datasets.IterableDataset`], and `eval_dataset`, `None` without
            `eval_dataset_split`, as a trainer takes them.

    Raises:
        `ValueError` or `OSError`: when prompts cannot be read.
    """
    from ..data import load_prompts

    def load(names: list[str], split: str, streaming: bool = False, **choice):
        if names in ([TINY_SCENES], [TINY_SCENES_EDIT]):
            from ..tiny_scenes import edit_prompts, prompts

            return prompts(split) if names == [TINY_SCENES] else edit_prompts(split)
        columns = {"prompt_column": script_args.prompt_column, "source_column": script_args.source_column}
        return load_prompts(names, script_args.dataset_config, split, streaming, **columns, **choice)

    eval_split = script_args.eval_dataset_split
    eval_name = script_args.eval_dataset_name
    eval_names = script_args.dataset_name if eval_name is None else [eval_name]
    return {
        "train_dataset": load(
            script_args.dataset_name,
            script_args.dataset_split,
            script_args.dataset_streaming,
            data_files=script_args.data_files,
            weights=script_args.dataset_weights,
            seed=training_args.prompt_seed,
        ),
        "eval_dataset": load(eval_names, eval_split) if eval_split else None,
    }


def lora_config(script_args: TrainArguments, training_args: "FlowConfig") -> "LoraConfig | None":
    """
    The adapter to train.

    Args:
        script_args ([`TrainArguments`]): the options of the command.
        training_args ([`FlowConfig`]): the configuration of the trainer.

    Returns:
        [`~peft.LoraConfig`] or `None`: its configuration, `None` where `adapter_path` brings one along, or all weights are
            trained.

    Raises:
        `ValueError`: when both say how it looks.
    """
    from peft import LoraConfig

    names = ("lora_r", "lora_alpha", "lora_target_modules", "init_lora_weights")
    given = [name for name in names if getattr(script_args, name) is not None]
    if not training_args.use_peft:  # what a recipe says of an adapter does not count then, as in TRL
        return None
    if training_args.adapter_path is not None:
        if given:
            raise ValueError(f"`adapter_path` names an adapter with a configuration of its own; leave out {given[0]}.")
        return None
    settings = {"lora_r": 16, "lora_alpha": 32} | {name: getattr(script_args, name) for name in given}
    targets = settings.get("lora_target_modules")
    if targets is not None and len(targets) == 1 and not re.fullmatch(r"[\w.]+", targets[0]):
        settings["lora_target_modules"] = targets[0]  # `all-linear`, or a pattern for whole names
    return LoraConfig(
        **{name if name == "lora_alpha" else name.removeprefix("lora_"): v for name, v in settings.items()}
    )
