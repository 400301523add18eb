"""`arr-trl rpo`: Rubric Policy Optimization."""

from dataclasses import dataclass

from .command import TrainCommand
from .train import train
from .train_arguments import TrainArguments, lora_config


__all__ = ["COMMAND", "RPOScriptArguments", "lora_config", "run"]


@dataclass
class RPOScriptArguments(TrainArguments):
    """What `arr-trl rpo` takes beside [`RPOConfig`]."""


COMMAND = TrainCommand(
    "rpo", "Train with RPO.", RPOScriptArguments, "arr_trl.trainer.RPOConfig", "arr_trl.trainer.RPOTrainer"
)


def run(argv: list[str]) -> int:
    """Train, evaluate and write the release; see [`~arr_trl.cli.train.train`] for the exit status."""
    return train(argv, COMMAND)
