"""`arr-trl rpo`: Rubric Policy Optimization."""

from collections.abc import Callable
from dataclasses import dataclass

from .train import quiet, train
from .train_arguments import TrainArguments, lora_config


__all__ = ["RPOScriptArguments", "lora_config", "run"]


@dataclass
class RPOScriptArguments(TrainArguments):
    """What `arr-trl rpo` takes beside [`RPOConfig`]."""


def run(argv: list[str], perform: Callable = train) -> int:
    """
    Train, evaluate and write the release; see [`~arr_trl.cli.train.train`] for the exit status. `perform` takes its place where
    a command wants to know what this one takes.
    """
    with quiet():
        from ..trainer import RPOConfig, RPOTrainer

    return perform(argv, "rpo", "Train with RPO.", RPOScriptArguments, RPOConfig, RPOTrainer)
