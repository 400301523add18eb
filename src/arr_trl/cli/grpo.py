"""`arr-trl grpo`: Flow-GRPO and the other losses on noisy steps with groups of candidates."""

from dataclasses import dataclass

from .command import TrainCommand
from .train import train
from .train_arguments import TrainArguments


@dataclass
class GRPOScriptArguments(TrainArguments):
    """What `arr-trl grpo` takes beside [`FlowGRPOConfig`]."""


COMMAND = TrainCommand(
    "grpo",
    "Train with Flow-GRPO.",
    GRPOScriptArguments,
    "arr_trl.trainer.FlowGRPOConfig",
    "arr_trl.trainer.FlowGRPOTrainer",
)


def run(argv: list[str]) -> int:
    """As [`~arr_trl.cli.rpo.run`]."""
    return train(argv, COMMAND)
