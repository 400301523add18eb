"""`arr-trl nft`: DiffusionNFT and the other losses on noised finished pictures."""

from dataclasses import dataclass

from .command import TrainCommand
from .train import train
from .train_arguments import TrainArguments


@dataclass
class NFTScriptArguments(TrainArguments):
    """What `arr-trl nft` takes beside [`DiffusionNFTConfig`]."""


COMMAND = TrainCommand(
    "nft",
    "Train with DiffusionNFT.",
    NFTScriptArguments,
    "arr_trl.trainer.DiffusionNFTConfig",
    "arr_trl.trainer.DiffusionNFTTrainer",
)


def run(argv: list[str]) -> int:
    """As [`~arr_trl.cli.rpo.run`]."""
    return train(argv, COMMAND)
