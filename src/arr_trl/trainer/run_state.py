"""What a checkpoint holds beside the trained weights and the optimizer, and what a resumed run has to be like."""

import os
from collections import defaultdict
from functools import cached_property
from typing import Any

import torch

from ..runtime.process_state import load_state, state_file
from .frozen_copies import adapter_of, load_frozen_copies
from .measured import numbers
from .resume_settings import fixed_settings, identity_of


class RunState:
    """A part of [`FlowTrainer`], named before `Trainer`."""

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """As of when it is first asked for: files that change while a run goes on are not what it started from."""
        return identity_of(self.args, self.base_model)

    def _fixed_settings(self) -> dict[str, Any]:
        return fixed_settings(self.args, adapter_of(self.accelerator.unwrap_model(self.model)), self._identity)

    def _sealed_settings(self) -> dict[str, Any]:
        holds_rollout = self._holds_rollout()
        return fixed_settings(
            self.args, adapter_of(self.accelerator.unwrap_model(self.model)), self._identity, holds_rollout
        )

    def _holds_rollout(self) -> bool:
        """Whether a checkpoint of this moment holds a rollout that is still trained on."""
        return False

    def _owner_state(self) -> dict[str, Any]:
        return {
            "metrics": {name: list(values) for name, values in self._metrics["train"].items()},
            "metric_totals": {name: float(value) for name, value in self.metric_totals.items()},
            "loss": (self._tr_loss.clone(), self._globalstep_last_logged),
        }

    def _restore_owner_state(self, state: dict[str, Any]) -> None:
        self._metrics["train"] = defaultdict(list, {name: list(values) for name, values in state["metrics"].items()})
        self.metric_totals = defaultdict(float, state["metric_totals"])
        loss, self._globalstep_last_logged = state["loss"]
        self._tr_loss.copy_(loss)

    def _process_state(self) -> dict[str, Any]:
        """All that this process keeps in a checkpoint; see [`~arr_trl.runtime.process_state.load_state`]."""
        state = self._owner_state() | {"spent": self._spent(), "processes": self.args.world_size}
        # plain numbers, whatever reward functions log: nothing else is read back
        return state | {"metrics": {name: numbers(values) for name, values in state["metrics"].items()}}

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        torch.save(self._process_state(), state_file(output_dir, self.args.process_index))

    def _load_process_state(self, checkpoint: str | os.PathLike, device: torch.device | str = "cpu") -> dict[str, Any]:
        return load_state(checkpoint, self.args.process_index, self.args.world_size, device)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        load_frozen_copies(self.accelerator.unwrap_model(self.model), checkpoint)
        state = self._load_process_state(checkpoint, self.accelerator.device)
        self._restore_owner_state(state)
        seconds, forwards = state["spent"]
        self._train_started = (self._train_started[0] - seconds, self._train_started[1] - forwards)
