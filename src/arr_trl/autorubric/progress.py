"""How far a run is: a line that moves on a terminal, one line per stage elsewhere."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..chat import ChatModel, ChatReply, ChatRequest
from .config import AutoRubricConfig


def planned_questions(pairs: int, held_out: int, config: AutoRubricConfig) -> dict[str, tuple[int, int]]:
    """
    Questions of each stage, at least and at most: how many are rewritten and verified again is known only afterwards.

    Args:
        pairs (`int`): pairs that criteria are written from.
        held_out (`int`): pairs that are measured on.
        config ([`AutoRubricConfig`]): settings.
    """
    rounds = config.max_rounds
    weighed = 2 * pairs if config.weights else 0
    return {
        "generate": (pairs, pairs),
        "verify": (2 * pairs, 2 * pairs * (rounds + 1)),
        "refine": (0, pairs * rounds),
        "structure": (1, 1),
        "weigh": (weighed, weighed),
        "hold-out": (4 * held_out, 4 * held_out),
    }


class RunProgress:
    """
    Use as a context manager; [`~RunProgress.stage`] is the `on_stage` of [`AutoRubric`].

    Args:
        planned (`dict[str, tuple[int, int]]`): what [`planned_questions`] said.
        price_in (`float`, *optional*): price of a million tokens in.
        price_out (`float`, *optional*): price of a million tokens out.
        console (`rich.console.Console`, *optional*): where to show it; standard error by default.
    """

    def __init__(
        self,
        planned: dict[str, tuple[int, int]],
        price_in: float | None = None,
        price_out: float | None = None,
        console: Console | None = None,
    ):
        self.console = console or Console(stderr=True)
        self.prices = (price_in, price_out)
        self.prompt_tokens = self.completion_tokens = self.replies = 0
        self._planned = {name: least for name, (least, _) in planned.items()}
        self._started = time.monotonic()
        self._passed = 0  # questions of the stages that are over
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._whole = self._bar.add_task("whole run", total=sum(self._planned.values()), rate="")
        self._stage: TaskID | None = None

    def __enter__(self) -> "RunProgress":
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def watch(self, model: ChatModel) -> ChatModel:
        """The same chat model, whose replies are counted."""
        return _Watched(model, self._count)

    def stage(self, name: str, count: int, unit: str = "questions") -> None:
        """A stage begins, in which so many replies come, or as many times [`~RunProgress.done`] is told."""
        if self._stage is not None:
            self._passed += int(self._bar.tasks[self._stage].total)
            self._bar.update(self._stage, visible=False)
        self._planned.pop(name if name in self._planned else name.split()[0], None)
        self._stage = self._bar.add_task(name, total=count, rate="")
        self._bar.update(self._whole, completed=self._passed, total=self._passed + count + sum(self._planned.values()))
        if not self.console.is_terminal:
            later = sum(self._planned.values())
            self.console.print(f"{name}: {count} {unit}, then about {later}{self._so_far()}", highlight=False)

    def done(self, count: int) -> None:
        """So many more of what the stage does, beside replies, are done."""
        self._advance(count)

    @property
    def cost(self) -> dict[str, int | float]:
        """Requests, tokens, and money where the prices are known."""
        found: dict[str, int | float] = {
            "requests": self.replies,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
        if None not in self.prices:
            found["cost"] = (self.prompt_tokens * self.prices[0] + self.completion_tokens * self.prices[1]) / 1e6
        return found

    def _count(self, reply: ChatReply) -> None:
        self.replies += 1
        self.prompt_tokens += reply.usage.prompt_tokens
        self.completion_tokens += reply.usage.completion_tokens
        self._advance(1)

    def _advance(self, count: int) -> None:
        rate = self._so_far()
        for task in (self._whole, self._stage):
            if task is not None:
                self._bar.update(task, advance=count, rate=rate)

    def _so_far(self) -> str:
        if not self.replies:
            return ""
        seconds = max(1e-9, time.monotonic() - self._started)
        cost = self.cost.get("cost")
        return f" ({self.replies / seconds:.1f}/s" + (f", {cost:.2f} spent)" if cost is not None else ")")


class _Watched:
    """A chat model that tells of every reply."""

    def __init__(self, model: ChatModel, count: Callable[[ChatReply], None]):
        self._model = model
        self._count = count
        self.model = model.model
        self.settings = model.settings

    def check(self) -> None:
        self._model.check()

    def complete(
        self, requests: Sequence[ChatRequest], on_reply: Callable[[int, ChatReply], None] | None = None
    ) -> list[ChatReply]:
        told = set()

        def arrived(i: int, reply: ChatReply) -> None:
            told.add(i)
            self._count(reply)
            if on_reply is not None:
                on_reply(i, reply)

        replies = self._model.complete(requests, on_reply=arrived)
        for i, reply in enumerate(replies):
            if i not in told:  # a chat model need not call back
                arrived(i, reply)
        return replies
