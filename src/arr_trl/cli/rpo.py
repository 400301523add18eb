"""`arr-trl rpo`: Rubric Policy Optimization."""

from dataclasses import dataclass

from .train import quiet, train
from .train_arguments import TrainArguments, lora_config


__all__ = ["RPOScriptArguments", "lora_config", "run"]


@dataclass
class RPOScriptArguments(TrainArguments):
    """What `arr-trl rpo` takes beside [`RPOConfig`]."""


def run(argv: list[str]) -> int:
    """Train, evaluate and write the release; see [`~arr_trl.cli.train.train`] for the exit status."""
    with quiet():
        from ..trainer import RPOConfig, RPOTrainer

    return train(argv, "rpo", "Train with RPO.", RPOScriptArguments, RPOConfig, RPOTrainer)
