"""`arr-trl nft`: DiffusionNFT and the other losses on noised finished pictures."""

from collections.abc import Callable
from dataclasses import dataclass

from .train import quiet, train
from .train_arguments import TrainArguments


@dataclass
class NFTScriptArguments(TrainArguments):
    """What `arr-trl nft` takes beside [`DiffusionNFTConfig`]."""


def run(argv: list[str], perform: Callable = train) -> int:
    """
    Train, evaluate and write the release; see [`~arr_trl.cli.train.train`] for the exit status. `perform` takes its place where
    a command wants to know what this one takes.
    """
    with quiet():
        from ..trainer import DiffusionNFTConfig, DiffusionNFTTrainer

    return perform(
        argv, "nft", "Train with DiffusionNFT.", NFTScriptArguments, DiffusionNFTConfig, DiffusionNFTTrainer
    )
