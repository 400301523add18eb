"""What a person sees of a run while it trains: progress, warnings, and an end when it stops getting better."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from .health import HealthCallback


# The numbers that matter, in the order they are shown: name in the logs, what it is called, how it is written.
_SHOWN = (
    ("eval_win_rate", "win rate", "{:.1%}"),
    ("eval_success_all", "success", "{:.1%}"),
    ("rollout/decided_rate", "decided", "{:.0%}"),
    ("judge/order_consistency", "orders agree", "{:.0%}"),
    ("judge/failure_rate", "no verdict", "{:.0%}"),
    ("policy/kl", "KL", "{:.2g}"),
    ("judge/wait_s", "judge", "{:.1f} s"),
    ("rollout/sample_s", "sampling", "{:.1f} s"),
)


def watch(trainer: Trainer, on_policy: bool) -> None:
    """
    Add the callbacks of a run: warnings, progress in place of what [`~transformers.Trainer`] prints, and the end
    that `early_stopping` asks for.
    """
    trainer.add_callback(HealthCallback(on_policy))
    if trainer.args.early_stopping is not None:
        trainer.add_callback(EarlyStoppingCallback(trainer.args.early_stopping))
    for callback in (ProgressCallback, PrinterCallback):  # whichever of the two Trainer chose
        trainer.remove_callback(callback)
    trainer.add_callback(RichProgressCallback())


class RichProgressCallback(TrainerCallback):
    """A progress bar with the latest values of the numbers that matter; a line for each log where there is no terminal."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console()
        self._progress: Progress | None = None
        self._values: dict[str, float] = {}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self.console,
        )
        self._task = self._progress.add_task("", total=state.max_steps, completed=state.global_step)
        if self.console.is_terminal:
            self._progress.start()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if self._progress is None:
            return
        self._values |= {name: logs[name] for name, _, _ in _SHOWN if name in logs}
        if self.console.is_terminal:
            self._progress.update(self._task, description=summary(self._values))
        elif summary(logs):
            line = f"step {state.global_step}/{state.max_steps}: {summary(logs)}"
            self.console.print(line, highlight=False, soft_wrap=True)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        if self._progress is not None and self.console.is_terminal:
            self._progress.stop()
        self._progress = None


def summary(logs: dict[str, float]) -> str:
    """The numbers that matter, on one line."""
    return ", ".join(f"{label} {form.format(logs[name])}" for name, label, form in _SHOWN if name in logs)
