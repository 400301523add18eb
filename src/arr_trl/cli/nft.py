"""`arr-trl nft`: DiffusionNFT and the other losses on noised finished pictures."""

from dataclasses import dataclass

from .train import quiet, train
from .train_arguments import TrainArguments


@dataclass
class NFTScriptArguments(TrainArguments):
    """What `arr-trl nft` takes beside [`DiffusionNFTConfig`]."""


def run(argv: list[str]) -> int:
    """Train, evaluate and write the release; see [`~arr_trl.cli.train.train`] for the exit status."""
    with quiet():
        from ..trainer import DiffusionNFTConfig, DiffusionNFTTrainer

    return train(argv, "nft", "Train with DiffusionNFT.", NFTScriptArguments, DiffusionNFTConfig, DiffusionNFTTrainer)
