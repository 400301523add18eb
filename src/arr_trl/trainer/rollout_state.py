"""What a checkpoint holds of rollouts: those that are being trained on, and those that are with the judge."""

from typing import Any

from .buffer import Sampled, micro_steps_of


class RolloutState:
    """A part of [`OnlineTrainer`], named before [`FlowTrainer`]."""

    def _save_checkpoint(self, model, trial) -> None:
        # candidates that are with the judge are saved with its verdicts
        pending, self._pending = self._pending, None
        if pending is not None:
            self._pending = Sampled(batches=self._score(pending))
        super()._save_checkpoint(model, trial)

    def _holds_rollout(self) -> bool:
        return self._pending is not None or self._step % self.args.steps_per_rollout > 0

    def _owner_state(self) -> dict[str, Any]:
        # the rollouts that are being trained on or judged
        whole, steps = divmod(self._step, self.args.steps_per_rollout)
        return super()._owner_state() | {
            "rollouts": (whole, steps),  # whole ones, and micro-steps on the next
            "buffered_inputs": self._buffered_inputs if steps else [],
            # what is with the judge when an error comes is sampled anew
            "pending": None if self._pending is None else self._pending.batches,
        }

    def _restore_owner_state(self, state: dict[str, Any]) -> None:
        super()._restore_owner_state(state)
        whole, steps = state["rollouts"]
        self._step = whole * self.args.steps_per_rollout + steps
        self._buffered_inputs = micro_steps_of(state["buffered_inputs"])
        self._pending = None if state["pending"] is None else Sampled(batches=micro_steps_of(state["pending"]))

    def _batches_taken(self) -> int:
        return self._step // self.args.steps_per_rollout
