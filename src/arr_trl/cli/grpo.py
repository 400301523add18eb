"""`arr-trl grpo`: Flow-GRPO and the other losses on noisy steps with groups of candidates."""

from dataclasses import dataclass

from .train import quiet, train
from .train_arguments import TrainArguments


@dataclass
class GRPOScriptArguments(TrainArguments):
    """What `arr-trl grpo` takes beside [`FlowGRPOConfig`]."""


def run(argv: list[str]) -> int:
    """Train, evaluate and write the release; see [`~arr_trl.cli.train.train`] for the exit status."""
    with quiet():
        from ..trainer import FlowGRPOConfig, FlowGRPOTrainer

    return train(argv, "grpo", "Train with Flow-GRPO.", GRPOScriptArguments, FlowGRPOConfig, FlowGRPOTrainer)
