"""
The cold start of a judge that writes reasons (Edit-R1, [paper](https://huggingface.co/papers/2604.27505)): points to check,
traces of a pool of models about each picture, a verifier's own answers to the points, and the trace that fits them best.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ..chat import ChatModel
from ..judges import JudgeRow, JudgeStats, Preset, StoredAnswer, VerdictStore
from ..judges.parsing import ReplyError
from ..judges.preset_questions import Asking, Pictures, edited, single_views
from ..judges.preset_source import with_settings
from ..judges.questions import Question, ask
from ..judges.readers import points_of
from ..judges.template_question import template_question


_CASES_AT_ONCE = 64
_MAX_TOKENS = 4096
_STRICT = ConfigDict(extra="forbid", json_schema_extra=lambda schema: schema.pop("description", None))
Points = list[dict[str, str]]


class _Point(BaseModel):
    model_config = _STRICT

    question: str
    reason: str
    gold: Literal[0, 1]


class _Gold(BaseModel):
    model_config = _STRICT

    gold: list[_Point]


@dataclass(frozen=True)
class Trace:
    """
    What one model wrote about a picture.

    Args:
        text (`str`): all of it.
        model (`str`): who wrote it.
        temperature (`float`): at which.
        verdicts (`tuple[int, ...]`): of each point, 1 where it says that it is met.
        score (`float`): its final score, as it gave it.
        accuracy (`float`, *optional*): share of the points that it has as the verifier has them.
    """

    text: str
    model: str
    temperature: float
    verdicts: tuple[int, ...]
    score: float
    accuracy: float | None = None


@dataclass(frozen=True, eq=False)
class TraceOutcome:
    """
    What became of a picture: the trace that was chosen, or why there is none.

    Args:
        row ([`~arr_trl.judges.JudgeRow`]): the picture, its prompt and source.
        points (`list[dict]`, *optional*): what was checked, `question` and `category` each.
        gold (`tuple[int, ...]`, *optional*): the verifier's answers.
        chosen ([`Trace`], *optional*): the trace to learn from.
        read (`int`): how many traces could be read.
        problem (`str`, *optional*): why there is none.
    """

    row: JudgeRow
    points: Points | None = None
    gold: tuple[int, ...] | None = None
    chosen: Trace | None = None
    read: int = 0
    problem: str | None = None


def select_trace(traces: Sequence[Trace]) -> Trace:
    """The trace of the highest accuracy; among those alike of the highest mean of points, then of the highest score; the first."""
    return max(traces, key=lambda trace: (trace.accuracy, fmean(trace.verdicts), trace.score))


def check_traced(preset: Preset) -> None:
    """
    Find out whether a preset has points, and traces about them.

    Raises:
        `ValueError`: with a sentence that says what to change.
    """
    before = preset.before
    if (
        preset.kind != "pointwise"
        or len(preset.asks) != 1
        or before is None
        or before.name not in preset.asks[0].columns
    ):
        raise ValueError(
            f"The preset {preset.name} has no points that a trace goes through: it needs one question about one picture and a "
            "`before` whose list the question shows, as `edit-rrm` has."
        )


class TraceMaker:
    """
    Makes traces to learn from. It keeps nothing but answers: questions go through the store, so that a run that was stopped
    goes on by asking the same again. The verifier is told the points and shown the pictures, and never what a trace says.

    Args:
        preset ([`~arr_trl.judges.Preset`]): the question, with points asked before it.
        writer ([`~arr_trl.chat.ChatModel`]): writes the points, from prompt and source alone.
        pool (`Sequence[ChatModel]`): write the traces.
        verifier ([`~arr_trl.chat.ChatModel`]): answers the points.
        store ([`~arr_trl.judges.VerdictStore`]): keeps the answers.
        temperatures (`Sequence[float]`, *optional*, defaults to `(0.7, 1.0)`): at which each of the pool writes.
        samples (`int`, *optional*, defaults to `1`): traces of each model at each temperature; more need one above 0.
        seed (`int`, *optional*, defaults to `0`): seed of the samples.
        on_stage (`Callable`, *optional*): told the name of a stage and its number of questions, when it begins.

    Raises:
        `ValueError`: when the preset has no points.
    """

    def __init__(
        self,
        preset: Preset,
        writer: ChatModel,
        pool: Sequence[ChatModel],
        verifier: ChatModel,
        store: VerdictStore,
        temperatures: Sequence[float] = (0.7, 1.0),
        samples: int = 1,
        seed: int = 0,
        on_stage: Callable[[str, int], None] = lambda name, count: None,
    ):
        check_traced(preset)
        if not pool or not temperatures or samples < 1:
            raise ValueError("Traces need a pool of at least one model, a temperature, and one sample of each.")
        if samples > 1 and 0 in temperatures:
            raise ValueError(
                f"temperatures={list(temperatures)} with samples={samples}: at 0 every sample is the same."
            )
        self.preset, self.writer, self.pool, self.verifier, self.store = preset, writer, pool, verifier, store
        self.temperatures, self.samples, self.seed = tuple(temperatures), samples, seed
        self.on_stage = on_stage
        self.stats = JudgeStats()

    @property
    def traces_of_a_picture(self) -> int:
        """How many traces are asked for."""
        return len(self.pool) * len(self.temperatures) * self.samples

    def planned(self, pictures: int) -> dict[str, tuple[int, int]]:
        """Questions of each stage, at least and at most: points are asked once for each prompt and source."""
        most = pictures * self.traces_of_a_picture
        return {"points": (0, pictures), "traces": (0, most), "verify": (0, pictures)}

    def make(self, rows: Iterable[JudgeRow]) -> Iterator[TraceOutcome]:
        """An outcome for each row of one picture, in order."""
        remaining = iter(rows)
        while block := list(islice(remaining, _CASES_AT_ONCE)):
            yield from self._block(block)

    def _block(self, rows: list[JudgeRow]) -> list[TraceOutcome]:
        pictures = Pictures(self.preset.image)
        points = self._points(rows, pictures)
        known = [i for i, p in enumerate(points) if not isinstance(p, str)]
        traces = dict(zip(known, self._traces([(rows[i], points[i]) for i in known], pictures), strict=True))
        readable = [i for i in known if traces[i]]
        gold = dict(zip(readable, self._gold([(rows[i], points[i]) for i in readable]), strict=True))
        return [self._outcome(row, points[i], traces.get(i, []), gold.get(i)) for i, row in enumerate(rows)]

    def _outcome(
        self, row: JudgeRow, points: Points | str, traces: list[Trace], gold: tuple[int, ...] | str | None
    ) -> TraceOutcome:
        if isinstance(points, str):
            return TraceOutcome(row, problem=f"no points: {points}")
        if not traces:
            return TraceOutcome(row, points, problem="no trace could be read")
        if isinstance(gold, str):
            return TraceOutcome(row, points, read=len(traces), problem=f"not verified: {gold}")
        measured = [
            Trace(t.text, t.model, t.temperature, t.verdicts, t.score, accuracy=_agreement(t.verdicts, gold))
            for t in traces
        ]
        return TraceOutcome(row, points, gold, select_trace(measured), len(traces))

    def _points(self, rows: list[JudgeRow], pictures: Pictures) -> list[Points | str]:
        asking, before = Asking(self.preset, self.writer, self.seed), self.preset.before
        questions = [asking.question(before, row, edited(row), 0, None, None, pictures) for row in rows]
        answers = self._ask("points", questions, self.writer)
        return [
            before.read.points(answer) if answer.status == "answered" else answer.problem or "no answer"
            for answer in answers
        ]

    def _traces(self, cases: list[tuple[JudgeRow, Points]], pictures: Pictures) -> list[list[Trace]]:
        found: list[list[Trace]] = [[] for _ in cases]
        (question,) = self.preset.asks
        for model in self.pool:
            for temperature in self.temperatures:
                asking = Asking(with_settings(self.preset, temperature=temperature), model, self.seed)
                questions, of = [], []
                for i, (row, points) in enumerate(cases):
                    ((view,),) = single_views(self.preset, row, 0, pictures)
                    for number in range(self.samples):
                        questions.append(asking.question(question, row, view.images, number, None, points, pictures))
                        of.append(i)
                name = f"traces {model.model} {temperature:g}"
                for i, answer in zip(of, self._ask(name, questions, model), strict=True):
                    trace = self._read(answer, model.model, temperature, len(cases[i][1]))
                    if trace is not None:
                        found[i].append(trace)
        return found

    def _read(self, answer: StoredAnswer, model: str, temperature: float, count: int) -> Trace | None:
        (question,) = self.preset.asks
        if answer.status != "answered":
            return None
        try:
            verdicts = points_of(answer, count)
            ((score,),) = (tuple(values.values()) for values in question.read.read(answer, question.name).values)
        except (ReplyError, ValueError):
            return None
        return Trace(answer.reply, model, temperature, verdicts, score)

    def _gold(self, cases: list[tuple[JudgeRow, Points]]) -> list[tuple[int, ...] | str]:
        questions = [gold_question(self.verifier, row, points) for row, points in cases]
        answers = self._ask("verify", questions, self.verifier)
        return [
            q.read(answer) if answer.status == "answered" else answer.problem or "no answer"
            for q, answer in zip(questions, answers, strict=True)
        ]

    def _ask(self, name: str, questions: list[Question], model: ChatModel) -> list[StoredAnswer]:
        if questions:
            self.on_stage(name, len({q.blank.key for q in questions}))
        answers, cost = ask(questions, model, self.store)
        self.stats += cost
        return [answers[q.blank.key] for q in questions]


def gold_question(verifier: ChatModel, row: JudgeRow, points: Points) -> Question:
    """What the verifier is asked about a picture; its answer is 0 or 1 for each point."""

    def read(reply: _Gold) -> tuple[int, ...]:
        if len(reply.gold) != len(points):
            raise ReplyError(
                f"`gold` has to have {len(points)} entries, one for each point, and has {len(reply.gold)}."
            )
        return tuple(point.gold for point in reply.gold)

    return template_question(
        "trace_gold.en",
        verifier,
        _Gold,
        prompt=row.prompt,
        images=[row.sources, row.images[0]],
        mask=row.mask,
        max_tokens=_MAX_TOKENS,
        temperature=0.0,
        package="arr_trl.judge_training",
        read=read,
        sources=len(row.sources),
        points=[point["question"] for point in points],
    )


def _agreement(verdicts: Sequence[int], gold: Sequence[int]) -> float:
    return fmean(said == right for said, right in zip(verdicts, gold, strict=True))
