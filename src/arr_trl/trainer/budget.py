"""What judges may cost in a run: questions and money, counted, foreseen, and kept within what was allowed."""

from accelerate.utils import gather_object
from transformers import TrainerCallback

from .alerts import warn
from .flow_trainer import FlowTrainer
from .online_config import OnlineConfig


class BudgetCallback(TrainerCallback):
    """
    Ends training, with a checkpoint, before the rollout that would pass `max_questions` or `max_cost`, if it costs what those
    before it did. What was paid for is trained on.

    Args:
        trainer ([`FlowTrainer`]): an online trainer, whose totals are read and whose metrics are added to.
    """

    def __init__(self, trainer: FlowTrainer):
        self.trainer = trainer

    def on_step_end(self, args: OnlineConfig, state, control, **kwargs) -> None:
        rollouts, begun = divmod(self.trainer._step, args.steps_per_rollout)
        if begun or not rollouts:  # what is paid for is trained on
            return
        questions, tokens_in, tokens_out = self._spent()
        left = (state.max_steps - state.global_step) / max(state.global_step, 1)
        totals = {"questions": (questions, args.max_questions)}
        if args.price_in is not None:
            totals["cost"] = (tokens_in * args.price_in + tokens_out * args.price_out) / 1e6, args.max_cost
        for name, (total, most) in totals.items():
            # the latest, and not the mean of what it was since the last log
            self.trainer._metrics["train"] |= {
                f"judge/{name}_so_far": [total],
                f"judge/{name}_to_come": [total * left],
            }
            if most is None or total + total / rollouts <= most or state.global_step >= state.max_steps:
                continue
            control.should_save = control.should_training_stop = True
            if state.is_world_process_zero:
                sentence = (
                    f"The next rollout would pass max_{name}={most:g}: {total:.6g} are spent, {total / rollouts:.3g} for a "
                    f"rollout. Training ends after step {state.global_step} of {state.max_steps}, with a checkpoint; resume "
                    "with a larger one to go on."
                )
                warn(f"max_{name}", sentence, args, state.global_step)

    def _spent(self) -> list[float]:
        """Questions, tokens in and tokens out of the whole run so far, over all processes."""
        names = ("judge/calls", "judge/prompt_tokens", "judge/completion_tokens")
        of_processes = gather_object([[self.trainer.metric_totals[name] for name in names]])
        return [sum(of_each) for of_each in zip(*of_processes, strict=True)]


def counts_cost(args: OnlineConfig) -> bool:
    """Whether what judges cost is counted in a run."""
    return args.max_questions is not None or args.price_in is not None
