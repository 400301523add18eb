"""`arr-trl align-prop`: the gradient of a reward, passed back through the steps that drew a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .command import TrainCommand
from .functions import import_functions
from .train import train
from .train_arguments import TrainArguments, build_training_judge


if TYPE_CHECKING:
    from ..trainer import AlignPropConfig


@dataclass
class AlignPropScriptArguments(TrainArguments):
    """
    What `arr-trl align-prop` takes beside [`AlignPropConfig`]: `reward_funcs` are functions of pixels with a gradient, and
    the judge compares in evaluations.
    """


def load_rewards(script_args: AlignPropScriptArguments, training_args: "AlignPropConfig") -> dict[str, list[Callable]]:
    """
    The functions that reward, the judge of the evaluations, their ground truths, and what is only watched.

    Raises:
        `ValueError`: when there is no reward, a function cannot be imported, or the judge's options contradict each other.
    """
    if not script_args.reward_funcs:
        raise ValueError(
            "There is no reward: give `reward_funcs`, functions of pixels with a gradient. A judge has none, and `judge_model` "
            "compares in evaluations; to train on its verdicts use `arr-trl rpo`, `grpo` or `nft`."
        )
    judge = build_training_judge(script_args, training_args)
    return {
        "reward_funcs": import_functions(script_args.reward_funcs),
        "eval_reward_funcs": [] if judge is None else [judge],
        "eval_funcs": import_functions(script_args.eval_funcs),
        "watch_funcs": import_functions(script_args.watch_funcs),
    }


COMMAND = TrainCommand(
    "align-prop",
    "Train with the gradient of a reward.",
    AlignPropScriptArguments,
    "arr_trl.trainer.AlignPropConfig",
    "arr_trl.trainer.AlignPropTrainer",
    load_rewards,
)


def run(argv: list[str]) -> int:
    """As [`~arr_trl.cli.rpo.run`]."""
    return train(argv, COMMAND)
