"""What each process has in a checkpoint beside the adapter: its rollouts, and what it has counted and measured."""

import os
from pathlib import Path
from typing import Any

import torch
from torch.serialization import default_restore_location

from .checkpoints import CheckpointError


State = dict[str, Any]


def state_file(checkpoint: str | os.PathLike, process: int) -> Path:
    return Path(checkpoint) / f"rollout_state_{process}.pt"


def load_state(
    checkpoint: str | os.PathLike, process: int, processes: int, device: torch.device | str = "cpu"
) -> State:
    """
    What a process had, or its part of what all had where there were more of them or fewer.

    Args:
        checkpoint (`str` or `os.PathLike`): the checkpoint.
        process (`int`): number of the process.
        processes (`int`): how many there are now.
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`): where its tensors go.

    Raises:
        [`CheckpointError`]: when the checkpoint holds no such state.
    """
    mine = _read(checkpoint, process if state_file(checkpoint, process).is_file() else 0, device)
    if mine["processes"] == processes:
        return mine
    return share_states([_read(checkpoint, other, device) for other in range(mine["processes"])], process)


def share_states(states: list[State], process: int) -> State:
    """
    What is left to do between rollouts when other processes go on: sums and measurements go to the first of them, and
    the others begin at nothing. The mean of the loss is everybody's.
    """
    metrics, totals = {}, {}
    for state in states if process == 0 else []:
        for name, values in state["metrics"].items():
            metrics[name] = metrics.get(name, []) + values
        for name, value in state["metric_totals"].items():
            totals[name] = totals.get(name, 0.0) + value
    losses, seconds = torch.stack([state["loss"][0] for state in states]), states[0]["spent"][0]
    forwards = sum(state["spent"][1] for state in states) if process == 0 else 0
    return states[0] | {
        "metrics": metrics,
        "metric_totals": totals,
        "loss": (losses.mean(0), states[0]["loss"][1]),
        "spent": (seconds, forwards),
    }


def _read(checkpoint: str | os.PathLike, process: int, device: torch.device | str) -> State:
    path = state_file(checkpoint, process)
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing. Either the checkpoint was written with `save_only_model`, and nothing can go on from it, or "
            "the process that wrote the file did so on another machine: copy it here."
        )

    # straight to the device: batches share tensors, and copies of them would not; what was on the CPU stays there
    def to_device(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        return storage if location == "cpu" else default_restore_location(storage, str(device))

    return torch.load(path, map_location=to_device, weights_only=True)
