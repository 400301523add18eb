"""`arr-trl grpo`: Flow-GRPO and the other losses on noisy steps with groups of candidates."""

from collections.abc import Callable
from dataclasses import dataclass

from .train import quiet, train
from .train_arguments import TrainArguments


@dataclass
class GRPOScriptArguments(TrainArguments):
    """What `arr-trl grpo` takes beside [`FlowGRPOConfig`]."""


def run(argv: list[str], perform: Callable = train) -> int:
    """
    Train, evaluate and write the release; see [`~arr_trl.cli.train.train`] for the exit status. `perform` takes its place where
    a command wants to know what this one takes.
    """
    with quiet():
        from ..trainer import FlowGRPOConfig, FlowGRPOTrainer

    return perform(argv, "grpo", "Train with Flow-GRPO.", GRPOScriptArguments, FlowGRPOConfig, FlowGRPOTrainer)
