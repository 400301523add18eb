"""What a person sees of a run while it goes: how far it is, what it is doing, how long it takes, and the numbers that matter."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from transformers import TrainerCallback

from ..judges import JudgeFuture, JudgeReward


# The numbers that matter, in the order they are shown: name in the logs, what it is called, how it is written.
_SHOWN = (
    ("eval_win_rate", "win rate", "{:.1%}"),
    ("eval_success_all", "success", "{:.1%}"),
    ("eval_rewards/accuracies", "held-out accuracy", "{:.1%}"),
    ("reward", "reward", "{:.3g}"),
    ("rewards/accuracies", "accuracy", "{:.1%}"),
    ("policy/chosen_error", "chosen error", "{:+.2g}"),
    ("rollout/decided_rate", "decided", "{:.0%}"),
    ("judge/order_consistency", "orders agree", "{:.0%}"),
    ("judge/failure_rate", "no verdict", "{:.0%}"),
    ("policy/kl", "KL", "{:.2g}"),
    ("judge/wait_s", "judge", "{:.1f} s"),
    ("judge/questions_so_far", "asked", "{:,.0f}"),
    ("judge/cost_so_far", "spent", "{:.2f}"),
    ("judge/cost_to_come", "to come", "{:.2f}"),
    ("rollout/sample_s", "sampling", "{:.1f} s"),
)
# And what an evaluation is told by, in a line of its own.
_OF_EVALUATIONS = (
    ("eval_win_rate", "win rate", "{:.1%}"),
    ("eval_tie_rate", "ties", "{:.0%}"),
    ("eval_failure_rate", "no verdict", "{:.0%}"),
    ("eval_success_all", "success", "{:.1%}"),
    ("eval_base_success_all", "of the base", "{:.1%}"),
    ("eval_reward", "reward", "{:.3g}"),
    ("eval_rewards/accuracies", "held-out accuracy", "{:.1%}"),
    ("eval_runtime", "took", "{:.0f} s"),
)
_SILENCE_S = (
    60  # without a terminal a line comes at least so often, and less often the longer a run is: see `Screen._tell`
)


class Screen(TrainerCallback):
    """
    Two lines on a terminal: bar, step and time left, and below them what is being done and the latest numbers that matter,
    as many as there is room for. Where there is no terminal, lines: one for each log, and one now and then.

    A trainer says what it is doing with [`~Screen.doing`]. What it said before is forgotten when the next optimizer step
    begins.

    Args:
        shown (`bool`, *optional*, defaults to `True`): whether this process shows anything.
        console (`rich.console.Console`, *optional*): where; standard output by default.
    """

    def __init__(self, shown: bool = True, console: Console | None = None):
        self.console = console or Console()
        self._shown = shown
        self._figures: dict[str, float] = {}
        self._doing: dict[str, tuple[Callable[[], int], int]] = {}
        self._steps: _Steps | None = None  # of the training that goes on
        self._micro_step = 0
        self._live: Live | None = None
        self._is_showing = False
        self._over = threading.Event()
        self._last_line = 0.0

    # What trainers say

    def doing(self, what: str, done: int | Callable[[], int], of: int) -> None:
        """
        Say how far a part of the current step is.

        Args:
            what (`str`): its name, such as `"drawing"`; what was said of it before is replaced.
            done (`int` or `Callable`): how many of them are done, or what tells it whenever it is asked, from any thread.
            of (`int`): how many there are.
        """
        self._doing = {**self._doing, what: (done if callable(done) else lambda: done, of)}  # read by another thread

    def training(self, of: int) -> None:
        """Say that what is drawn and judged is being trained on, in `of` micro-steps."""
        self.doing("training", self._micro_step, of)

    @contextmanager
    def showing(self) -> Iterator[None]:
        """In which it is on the screen: while a run trains or, after that, evaluates."""
        if not self._shown or self._is_showing:
            yield
            return
        self._is_showing, self._last_line = True, time.monotonic()
        self._over.clear()
        if self.console.is_terminal:
            self._live = Live(self, console=self.console, refresh_per_second=4)
            self._live.start()
        else:
            threading.Thread(target=self._tell, name="arr_trl-screen", daemon=True).start()
        try:
            yield
        finally:
            self._doing = {}
            self._over.set()
            if self._live is not None:
                self._live.transient = self._steps is None  # of an evaluation by itself nothing is left
                self._live.stop()  # draws it for the last time
                self._figures = {}
            self._live = self._steps = None
            self._is_showing = False

    # What Trainer says

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._steps = _Steps(state.global_step, state.max_steps)
        self._figures = {}

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self._doing = {}
        self._micro_step = 0
        self._steps.begin()

    def on_substep_end(self, args, state, control, **kwargs) -> None:
        self._micro_step += 1
        self.training(args.gradient_accumulation_steps)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._doing = {}
        self._steps.end(state.global_step)
        if self._steps.done == 1:
            rest = state.max_steps - state.global_step
            first = f"The first step took {in_words(self._steps.seconds)}"
            others = f"the other {rest} take" if rest > 1 else "the other takes"
            self._print(f"{first}; {others} about {in_words(self._steps.left)}." if rest else f"{first}.")

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if self._steps is None:
            return
        self._figures |= {name: logs[name] for name, _, _ in _SHOWN if name in logs}
        if found := summary(logs, _OF_EVALUATIONS):
            self._print(f"step {state.global_step}/{state.max_steps}: evaluation: {found}")
        elif not self.console.is_terminal and (found := summary(logs)):
            self._print(f"{self._steps.words}: {found}")

    # How it looks

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        if self._steps is not None:
            yield self._steps.line(width)
        parts = [*([self.words] if self.words else []), *_parts(self._figures)]
        shown = ""
        for part in parts:  # as many as there is room for
            if len(longer := f"{shown}, {part}" if shown else part) > width:
                break
            shown = longer
        yield Text(shown, no_wrap=True, overflow="ellipsis")

    @property
    def words(self) -> str:
        """What is being done."""
        # by number: what is read by one thread is written by another
        counts = [(what, min(done(), of), of) for what, (done, of) in self._doing.items()]
        # what is through is no news once something else has begun
        going = [part for n, part in enumerate(counts) if part[1] < part[2] or n == len(counts) - 1]
        return ", ".join(f"{what} {done}/{of}" for what, done, of in going)

    def _print(self, line: str) -> None:
        if self._shown:
            self._last_line = time.monotonic()
            self.console.print(line, highlight=False, markup=False, soft_wrap=not self.console.is_terminal)

    def _tell(self) -> None:
        """A line where there was none for a minute, or for a hundredth of the time that it is on the screen."""
        began = time.monotonic()
        while not self._over.wait(1):
            now = time.monotonic()
            if now - self._last_line > max(_SILENCE_S, (now - began) / 100) and (words := self.words):
                self._print(words if self._steps is None else f"{self._steps.words}: {words}")


class _Steps:
    """The clock of a training: what its steps took, and what is left."""

    def __init__(self, first: int, total: int):
        self.first, self.step, self.total = first, first, total
        self._began: float | None = None  # the first step: what comes before is not repeated
        self._this_began = self._ended = self._in_steps = 0.0

    def begin(self) -> None:
        self._this_began = time.monotonic()
        if self._began is None:
            self._began = self._this_began

    def end(self, step: int) -> None:
        self.step, self._ended = step, time.monotonic()
        self._in_steps += self._ended - self._this_began

    @property
    def done(self) -> int:
        return self.step - self.first

    @property
    def seconds(self) -> float:
        """What a step took so far, without the evaluations and checkpoints between them."""
        return self._in_steps / self.done

    @property
    def left(self) -> float:
        """Of the whole run, if the rest of it takes what it took so far, evaluations and checkpoints included."""
        each = (self._ended - self._began) / self.done
        since = min(time.monotonic() - self._ended, each)  # an evaluation is no step
        return max(0.0, each * (self.total - self.step) - since)

    @property
    def words(self) -> str:
        told = f"step {self.step}/{self.total}"
        return told if not self.done or self.step >= self.total else f"{told}, {_clock(self.left)} left"

    def line(self, width: int) -> Table:
        """Bar, step and time left; it is the bar that gets shorter where there is no room."""
        step = f"step {self.step:>{len(str(self.total))}}/{self.total}"
        if not self.done:
            told = "-:--:-- left"
        elif self.step < self.total:
            told = f"{_clock(self.left)} left, {in_words(self.seconds)} a step"
        else:
            told = f"{_clock(self._ended - self._began)} in all, {in_words(self.seconds)} a step"
        bar = ProgressBar(self.total, self.step, width=max(4, min(30, width - len(step) - len(told) - 2)))
        line = Table.grid(padding=(0, 1))
        for _ in range(3):
            line.add_column(no_wrap=True)
        line.add_row(Text(step, style="progress.download"), bar, Text(told, style="progress.remaining"))
        return line


def follow_judges(
    screen: Screen,
    judges: Sequence[JudgeReward],
    prompts: int,
    num_generations: int,
    begun: Sequence[tuple[JudgeFuture, int]] = (),
) -> None:
    """
    Let the screen count the questions about some prompts from now on.

    Args:
        screen ([`Screen`]): the screen.
        judges (`Sequence[JudgeReward]`): who is asked; without any nothing is shown.
        prompts (`int`): how many are judged.
        num_generations (`int`): candidates of each.
        begun (`Sequence`, *optional*):
            Futures, and of how many prompts each is. It may still grow. Judges that do not count their answers are through
            with these when they are done.
    """
    of_a_prompt = sum(judge.questions_per_row(num_generations) for judge in judges)
    before = sum(judge.answered for judge in judges)

    def done() -> int:
        through = sum(of_each for future, of_each in begun if future.done())
        return max(sum(judge.answered for judge in judges) - before, through * of_a_prompt // len(judges))

    if judges:
        screen.doing("judging", done, prompts * of_a_prompt)


def as_table(lines: Sequence[tuple[str, str]]) -> str:
    """Names, and what is said of each beside it."""
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {told}" for name, told in lines)


def in_words(seconds: float) -> str:
    """A length of time, to about two digits."""
    count, unit = seconds, "s"
    if seconds >= 5_970:
        count, unit = seconds / 3_600, "h"
    elif seconds >= 99.5:
        count, unit = seconds / 60, "min"
    return (
        f"{count:.0f} {unit}" if count >= 9.95 else f"{count:.1f} {unit}" if count >= 0.95 else f"{count:.2g} {unit}"
    )


def _clock(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))


def summary(logs: Mapping[str, float], shown=_SHOWN) -> str:
    """The numbers that matter, on one line."""
    return ", ".join(_parts(logs, shown))


def _parts(logs: Mapping[str, float], shown=_SHOWN) -> list[str]:
    return [f"{label} {form.format(logs[name])}" for name, label, form in shown if name in logs]
