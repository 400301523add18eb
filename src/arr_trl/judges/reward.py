"""A judge as a reward function in TRL's protocol: verdicts become rewards, metrics and a stop when it breaks."""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from PIL import Image

from ..rewards.failures import FailureWindow
from ..rubrics import Rubric
from .mean import MeanOf
from .preset import Preset
from .rehearsal import Rehearsal
from .row import JudgeRow, judge_rows
from .stats import JudgeStats
from .verdict import Verdict


_SUBMITTED_AT_ONCE = 8  # calls of `submit` that are judged side by side


class JudgeFailureError(RuntimeError):
    """Too many comparisons in a row ended without a verdict for training to go on."""


# What `submit` returns: a verdict per row, and what they cost.
JudgeFuture = Future[tuple[list[Verdict], JudgeStats]]


class JudgeReward(ABC):
    """
    What every judge shares. A subclass compares rows; rewards, metrics and the failure policy are here.

    Args:
        max_failure_rate (`float`, *optional*):
            Share of failures among the last `failure_window` comparisons above which rewards are refused; `None`
            never refuses.
        failure_window (`int`):
            Number of comparisons that the share is taken over. It is always of the full window, so that the first
            few failures of a run do not stop it.
    """

    def __init__(self, max_failure_rate: float | None, failure_window: int):
        self._failures = FailureWindow(max_failure_rate, failure_window)
        self._pool: ThreadPoolExecutor | None = None
        self._pool_lock = threading.Lock()
        self._answered = 0

    @abstractmethod
    def _compare(self, rows: list[JudgeRow]) -> tuple[list[Verdict], JudgeStats]:
        """A verdict for every row. Called from several threads at once when `submit` is used."""

    def questions_per_row(self, num_candidates: int) -> int:
        """Questions about the candidates of one row, when none is stored and none has to be repaired; 1 if not said."""
        return 1

    @property
    def answered(self) -> int:
        """
        Of how many questions there was an answer so far, from the store or not. It grows while a rollout is judged, and
        stays 0 where a subclass does not count.
        """
        return self._answered

    def _count_answers(self, count: int) -> None:
        with self._pool_lock:
            self._answered += count

    @abstractmethod
    def check(self) -> None:
        """
        Find out, before training, whether the judge can be asked.

        Raises:
            `ConnectionError`: when a server does not answer.
            `PermissionError`: when it refuses the credentials.
            `ValueError`: when it does not serve the model, or not what the judge's mode needs.
        """

    def check_for(self, num_candidates: int, num_sources: int | None = None) -> None:
        """
        As `check`, of a judge that will be shown this many pictures at once; a judge that does not ask anybody checks the
        same.

        Args:
            num_candidates (`int`): candidates of a row.
            num_sources (`int`, *optional*): pictures that were edited; unset, what the rubric needs.
        """
        self.check()

    def rehearse(self, row: JudgeRow) -> list[Rehearsal]:
        """
        Ask one real question, in one order, as the judge will ask, and read the reply; of it nothing is kept, and no count
        of the judge's has it. A judge that asks no chat model does nothing.

        Args:
            row ([`JudgeRow`]): what to ask about, such as two flat pictures.

        Returns:
            `list[Rehearsal]`: what came of it, for each chat model that was asked.
        """
        return []

    @property
    def rubrics(self) -> list[Rubric]:
        """The rubrics that all rows are judged under: one, those of an ensemble's judges, or none."""
        return []

    @property
    def presets(self) -> list[Preset]:
        """The published questions that all rows are judged by, as far as there are any."""
        return []

    @property
    def asked_by(self) -> list[str]:
        """By what rows are judged, for the record: hashes of rubrics, names and versions of presets."""
        rubrics = [rubric.content_hash for rubric in self.rubrics]
        return rubrics + [f"{preset.name} {preset.version}" for preset in self.presets]

    @property
    def model_names(self) -> list[str]:
        """The chat models that are asked, as far as there are any."""
        return []

    @property
    def devices(self) -> list[str]:
        """Where models of this process compute that are asked, as far as there are any."""
        return []

    @property
    def sleeps(self) -> bool:
        """Whether it gives its memory back while nobody asks, so that it should be asked about a whole rollout at once."""
        return False

    def awake(self) -> AbstractContextManager:
        """In which a judge that sleeps can be asked."""
        return nullcontext()

    def _compare_awake(self, rows: list[JudgeRow]) -> tuple[list[Verdict], JudgeStats]:
        with self.awake():
            return self._compare(rows)

    def untied(self) -> "JudgeReward":
        """The same judge without a band of ties, whose leads are those that it gives; itself where it has none."""
        return self

    def probe(self) -> "JudgeReward":
        """
        The same judge for finding out whether it still says the same: without a band of ties, without what it has stored,
        and at temperature 0.
        """
        return self.untied()

    def check_first_row(self, rows: Iterable[Mapping[str, Any]] | None) -> None:
        """
        Find out, before training, whether the rows of a dataset can be judged, from the first one.

        Raises:
            `ValueError`: when a rubric for editing meets rows without a source image.
        """
        editing = [rubric for rubric in self.rubrics if rubric.task == "image-editing"]
        row = next(iter(rows or ()), {}) if editing else {}
        if row and row.get("source_image") is None:
            raise ValueError(
                f"The rubric {editing[0].name} is for image editing, and the rows have no `source_image`, only "
                f"{', '.join(map(repr, row))}; give rows with the pictures to edit, or a rubric for text-to-image."
            )

    def compare(self, rows: list[JudgeRow]) -> list[Verdict]:
        """
        Judge the candidates of every row.

        Raises:
            `ValueError`: when a row has fewer than two images, or an editing rubric meets a row without source image.
        """
        return self._compare_awake(rows)[0]

    def submit(self, rows: list[JudgeRow]) -> JudgeFuture:
        """
        Judge in the background, so that sampling can go on. Hand the futures to [`~JudgeReward.collect`].

        Example:
        ```python
        >>> futures = [judge.submit(rows) for rows in chunks_of_the_rollout]
        >>> rewards = judge.collect(futures)
        ```
        """
        with self._pool_lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_SUBMITTED_AT_ONCE, thread_name_prefix="arr_trl-judge")
        return self._pool.submit(self._compare_awake, rows)

    def collect(
        self,
        futures: list[JudgeFuture],
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list], None] | None = None,
    ) -> list[float | None]:
        """
        Wait for what was submitted and turn it into rewards, one per image in the order of the rows.

        Raises:
            [`JudgeFailureError`]: when more than `max_failure_rate` of the latest comparisons failed.
        """
        start = time.perf_counter()
        verdicts, stats = [], JudgeStats()
        for future in futures:
            some, cost = future.result()
            verdicts += some
            stats += cost
        return self._rewards(verdicts, stats, time.perf_counter() - start, log_metric, log_extra)

    def __call__(
        self,
        prompts: list[str],
        completions: list[Image.Image],
        num_generations: int = 2,
        source_image: list[Image.Image | list[Image.Image]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """
        Rewards in TRL's protocol.

        Args:
            prompts (`list[str]`): one per completion; the candidates of one prompt are adjacent.
            completions (`list[PIL.Image.Image]`): the candidates.
            num_generations (`int`, *optional*, defaults to `2`): candidates per prompt.
            source_image (`list`, *optional*): what was edited, an image or a list of images per completion.
            log_metric (`Callable`, *optional*): takes the name and value of a metric.
            log_extra (`Callable`, *optional*): takes a column of the table of completions.
            **columns: the dataset's other columns, of which presets read some.

        Returns:
            `list[float | None]`: from 1 for the best to 0 for the worst, ties share the mean (.5 each in a pair); of a
            judge that scores each candidate the scores. `None` where there is no verdict.

        Raises:
            [`JudgeFailureError`]: when more than `max_failure_rate` of the latest comparisons failed.
        """
        start = time.perf_counter()
        rows = judge_rows(prompts, completions, num_generations, source_image, columns)
        verdicts, stats = self._compare_awake(rows)
        return self._rewards(verdicts, stats, time.perf_counter() - start, log_metric, log_extra)

    @property
    def last_failure(self) -> str | None:
        """Why the last of the latest comparisons without a verdict has none; `None` where all have one."""
        return self._failures.last

    @property
    def may_stop(self) -> bool:
        """Whether it refuses to go on when it fails, as it does unless it was told not to."""
        return self._failures.max_failure_rate not in (None, 1)

    def _rewards(self, verdicts, stats, wait_s, log_metric, log_extra) -> list[float | None]:
        axes = _axes(verdicts)
        if log_metric is not None:
            for name, value in {**judge_metrics(verdicts, stats), "judge/wait_s": wait_s}.items():
                log_metric(name, value)
            for name, scores in axes.items():
                if known := [score for score in scores if score is not None]:
                    log_metric(f"judge/score/{name}", MeanOf(known))
        if log_extra is not None:
            log_extra("judge_winner", [_winner(v) for v in verdicts for _ in range(v.candidates)])
            log_extra("judge_reason", [v.failure or v.reason for v in verdicts for _ in range(v.candidates)])
            for name, scores in axes.items():
                log_extra(f"judge_{name}", scores)
            log_extra("judge_margin", [v.clearness for v in verdicts for _ in range(v.candidates)])
            log_extra("judge_consistent", [v.consistent for v in verdicts for _ in range(v.candidates)])
        self._stop_when_broken(stats.comparisons or [verdict.failure for verdict in verdicts])
        return [reward for verdict in verdicts for reward in verdict_rewards(verdict)]

    def _stop_when_broken(self, comparisons: list[str | None]) -> None:
        too_many = self._failures.add(comparisons, "comparisons ended without a verdict")
        if too_many is not None:
            raise JudgeFailureError(f"{too_many} Repair the judge and resume; what it answered is kept in its store.")


def verdict_rewards(verdict: Verdict) -> list[float | None]:
    """The reward of each candidate: its score where the judge gives scores, else 1 for the best down to 0."""
    if verdict.failure is not None and verdict.scores is None:
        return [None] * verdict.candidates
    if verdict.scores is not None:
        return [None if math.isnan(score) else score for score in verdict.scores]
    return [1.0 - (rank - 1.0) / (verdict.candidates - 1) for rank in verdict.ranks]


def judge_metrics(verdicts: list[Verdict], stats: JudgeStats) -> dict[str, float]:
    """What is worth a curve; a rate over nothing is left out."""
    decided = [v for v in verdicts if v.failure is None]
    metrics = {
        "judge/calls": float(stats.calls),
        "judge/stored": float(stats.stored),
        "judge/prompt_tokens": float(stats.prompt_tokens),
        "judge/completion_tokens": float(stats.completion_tokens),
    }
    for name, values in (
        ("judge/failure_rate", [v.failure is not None for v in verdicts]),
        ("judge/tie_rate", [v.tie for v in decided]),
        ("judge/order_consistency", stats.orders or [v.consistent for v in decided if v.consistent is not None]),
        ("judge/first_position_rate", [first for v in decided for first in v.first_position]),
        ("judge/margin", [v.margin for v in decided if v.margin is not None]),
        ("judge/abstention_rate", stats.abstentions),
        ("judge/label_mass", stats.label_mass),
        ("judge/latency_s", stats.latencies_s),
    ):
        if values:
            metrics[name] = MeanOf(values)
    return metrics


def _axes(verdicts: list[Verdict]) -> dict[str, list[float | None]]:
    """Of each axis the score of every candidate of all verdicts, `None` where there is none."""
    names = dict.fromkeys(name for verdict in verdicts for name, _ in verdict.axes)
    scores = {name: [dict(v.axes).get(name, (math.nan,) * v.candidates) for v in verdicts] for name in names}
    return {
        name: [None if math.isnan(score) else score for of_row in rows for score in of_row]
        for name, rows in scores.items()
    }


def _winner(verdict: Verdict) -> str:
    if verdict.failure is not None:
        return "failed"
    return "tie" if verdict.winner is None else f"image {verdict.winner + 1}"
