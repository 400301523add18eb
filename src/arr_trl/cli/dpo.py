"""`arr-trl dpo`: Diffusion-DPO and other losses on preference data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .arguments import TINY_SCENES, TINY_SCENES_EDIT
from .command import TrainCommand
from .functions import import_functions
from .train import train
from .train_arguments import TrainArguments, build_training_judge


if TYPE_CHECKING:
    from ..trainer import DiffusionDPOConfig


@dataclass
class DPOScriptArguments(TrainArguments):
    """
    What `arr-trl dpo` takes beside [`DiffusionDPOConfig`]. A judge, `reward_funcs` and `eval_funcs` are for evaluation, and
    none is needed.
    """

    dataset_name: list[str] | None = field(
        default=None,
        metadata={
            "help": "Preference data in any layout that is read: a dataset on the Hub, a .jsonl, .json or .parquet file, a "
            "folder of a dataset, or a benchmark with pairs. Several make one dataset."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("dataset_weights", "data_files", "source_column"):
            if getattr(self, name) is not None:
                raise ValueError(f"`{name}` is for prompts; preference data are read by the names of their columns.")
        if self.prompt_column != "prompt":
            raise ValueError("`prompt_column` is for prompts; preference data are read by the names of their columns.")


def load_judges(script_args: TrainArguments, training_args: "DiffusionDPOConfig") -> dict[str, list[Callable]]:
    """As [`~arr_trl.cli.train_arguments.build_rewards`], where none is needed."""
    judge = build_training_judge(script_args, training_args)
    return {
        "reward_funcs": [*([] if judge is None else [judge]), *import_functions(script_args.reward_funcs)],
        "eval_funcs": import_functions(script_args.eval_funcs),
        "watch_funcs": import_functions(script_args.watch_funcs),
    }


def load_preference_datasets(script_args: TrainArguments, training_args: "DiffusionDPOConfig") -> dict[str, Any]:
    """
    The preferences to train and to evaluate on.

    Returns:
        `dict[str, Any]`: `train_dataset` and `eval_dataset`, `None` without `eval_dataset_split`, as the trainer takes them.

    Raises:
        `ValueError` or `OSError`: when they cannot be read.
    """
    from datasets import concatenate_datasets

    from ..data.preference_rows import preference_rows

    def load(names: list[str], split: str, streaming: bool = False):
        if names == [TINY_SCENES]:
            from ..tiny_scenes import pairs

            return pairs(split)
        if names == [TINY_SCENES_EDIT]:  # prompts alone, to evaluate on
            from ..tiny_scenes import edit_prompts

            return edit_prompts(split)
        rankings = training_args.loss_type == "rank"
        parts = [
            preference_rows(name, script_args.dataset_config, split, streaming=streaming, rankings=rankings)
            for name in names
        ]
        return parts[0] if len(parts) == 1 else concatenate_datasets(parts)

    eval_names = script_args.dataset_name if script_args.eval_dataset_name is None else [script_args.eval_dataset_name]
    eval_split = script_args.eval_dataset_split
    return {
        "train_dataset": load(script_args.dataset_name, script_args.dataset_split, script_args.dataset_streaming),
        "eval_dataset": load(eval_names, eval_split) if eval_split else None,
    }


COMMAND = TrainCommand(
    "dpo",
    "Train with Diffusion-DPO on preference data.",
    DPOScriptArguments,
    "arr_trl.trainer.DiffusionDPOConfig",
    "arr_trl.trainer.DiffusionDPOTrainer",
    load_judges,
    load_preference_datasets,
)


def run(argv: list[str]) -> int:
    """As [`~arr_trl.cli.rpo.run`]."""
    return train(argv, COMMAND)
