"""Published judges: a chat model asked as its authors ask it, read as its authors read it, and never guessed."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from jinja2 import TemplateError

from ..chat import ChatModel, HTTPChatModel
from ..digests import image_digest
from .calibration import Calibration
from .chat_judge import ChatJudge
from .orders import ORDERS, orders_shown
from .preset import REFERENCE_COLUMN, Ask, Preset
from .preset_questions import Asked, Asking, Pictures, edited, pair_view, sample_item, single_views
from .preset_source import load_preset, with_settings
from .preset_verdict import Opinion, Score, compared, opinion, scored
from .questions import ask
from .rehearsal import USUAL_MASS, check_reply, tiny_pictures
from .row import JudgeRow
from .stats import JudgeStats
from .store import StoredAnswer, VerdictStore
from .tournament import standings
from .verdict import Verdict


logger = logging.getLogger(__name__)
_SHOWN = 300  # characters of a reply that stand for its reason


class PresetJudge(ChatJudge):
    """
    A judge that was published with a question, an answer and a score of its own: PaCo-Reward, EditScore, UnifiedReward and
    others, or any vision-language model asked for a number; see [Judge presets](judge_presets.md). It is a reward function
    in TRL's protocol.

    A reply that cannot be read leaves the candidate, or the pair, without a reward: nothing is ever 0, random or a middle
    value. There is no JSON schema and no repair, which a reply format that was trained has never seen. Of a preset that
    scores each candidate the reward is the score, from 0 to 1. One that compares pairs asks in both orders; of more than
    two candidates all pairs are compared, and the reward is the win rate over the comparisons that were answered.

    Args:
        preset ([`Preset`] or `str` or `Path`):
            Name of a preset of the package, its file, its repository on the Hub, or the preset.
        model (`str` or [`ChatModel`], *optional*):
            Name of the model at `base_url`, or any chat model. Unset, the name is the repository of the preset's weights.
        base_url (`str`, *optional*):
            Address of an OpenAI-compatible server; see [`HTTPChatModel`] for this and `api_key`.
        api_key (`str`, *optional*):
            Secret for the server.
        combine (`str`, *optional*):
            What the answers add up to, in place of the preset's: `"mean"`, `"min"`, `"geometric_mean"` and others.
        passes (`int`, *optional*):
            How often everything is asked, in place of the preset's; the mean over those that were answered counts.
        tie_margin (`float`, *optional*):
            Difference of scores, from 0 to 1, up to which candidates are level, in place of the preset's.
        calibration ([`~arr_trl.judges.Calibration`] or `str` or `Path`, *optional*):
            What was fitted to labels, or the file that `arr-trl judge calibrate` wrote; its band takes the place of
            `tie_margin`.
        temperature (`float`, *optional*):
            Sampling temperature, in place of the preset's.
        order (`str`, *optional*, defaults to `"both"`):
            Of presets that compare pairs; see [`RubricJudge`].
        store (`str` or `Path`, *optional*):
            SQLite file that keeps every question and answer; see [`RubricJudge`].
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            Share of failures in the last `failure_window` candidates, or pairs, above which rewards are refused with a
            [`JudgeFailureError`]; `None` never refuses.
        failure_window (`int`, *optional*, defaults to `128`):
            Number of candidates, or pairs, that `max_failure_rate` looks back on.
        seed (`int`, *optional*, defaults to `0`):
            Seed of samples and of `order="random"`.

    Example:
    ```python
    >>> judge = PresetJudge("paco-edit", base_url="http://localhost:8000/v1")
    >>> judge.check()
    >>> judge(["make it night"] * 2, [image, other_image], source_image=[source] * 2)
    [0.87, 0.31]
    ```
    """

    def __init__(
        self,
        preset: Preset | str | Path,
        model: str | ChatModel | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        combine: str | None = None,
        passes: int | None = None,
        tie_margin: float | None = None,
        calibration: Calibration | str | Path | None = None,
        temperature: float | None = None,
        order: Literal["both", "random", "fixed"] = "both",
        store: str | Path | None = None,
        max_failure_rate: float | None = 0.5,
        failure_window: int = 128,
        seed: int = 0,
    ):
        super().__init__(max_failure_rate, failure_window)
        self.preset = with_settings(load_preset(preset), combine=combine, passes=passes, temperature=temperature)
        if order not in ORDERS:
            raise ValueError(f"order={order!r} is not one of {', '.join(map(repr, ORDERS))}.")
        if tie_margin is not None and not 0 <= tie_margin < 1:
            raise ValueError(f"tie_margin={tie_margin} is a difference of scores; it has to lie between 0 and 1.")
        model = self.preset.weights if model is None else model
        if model is None:
            raise ValueError(f"The preset {self.preset.name} has no weights of its own; give `model`, who is asked.")
        if base_url is not None and not isinstance(model, str):
            raise ValueError("`base_url` belongs to a model given by name; here `model` is a chat model already.")
        sides = {"max_image_size": max(1024, self.preset.image.max_side)}
        self.model = HTTPChatModel(model, base_url, api_key, **sides) if isinstance(model, str) else model
        if calibration is not None:
            if tie_margin is not None:
                raise ValueError("A calibration has a tie margin of its own; leave `tie_margin` out.")
            if self.pairwise:
                raise ValueError(
                    f"The preset {self.preset.name} names winners and has no scores that a band could part."
                )
            calibration = Calibration.load(calibration) if isinstance(calibration, str | Path) else calibration
            tie_margin = calibration.tie_margin
            calibration.check_judge(self)
        self.tie_margin = self.preset.tie_margin if tie_margin is None else tie_margin
        self.order = order
        self.seed = seed
        self.store = VerdictStore(store)
        self._has_warned = False
        self.__name__ = self.preset.name.replace("-", "_").replace(".", "_")  # what metrics are filed under

    @property
    def pairwise(self) -> bool:
        """Whether candidates are compared and not scored."""
        return self.preset.kind == "pairwise"

    @property
    def presets(self) -> list[Preset]:
        return [self.preset]

    def untied(self) -> "PresetJudge":
        untied = copy.copy(self)
        untied.tie_margin = 0.0
        return untied

    def probe(self) -> "PresetJudge":
        probe = self.untied()
        probe.store, probe.preset = VerdictStore(), with_settings(self.preset, temperature=0.0)
        return probe

    def questions_per_row(self, num_candidates: int) -> int:
        views = num_candidates * (2 if self.preset.swap else 1)
        if self.pairwise:
            views = num_candidates * (num_candidates - 1) // 2 * (2 if self.order == "both" else 1)
        return views * self.preset.passes * len(self.preset.asks) + (self.preset.before is not None)

    def check(self) -> None:
        """As [`~PresetJudge.check_for`], for pairs."""
        self.check_for(num_candidates=2)

    def check_for(self, num_candidates: int, num_sources: int | None = None) -> None:
        """
        Ask every question of the preset about tiny pictures, after a sign of life.

        Raises:
            `ConnectionError`: when the server does not answer.
            `PermissionError`: when it refuses the credentials.
            `ValueError`: when it does not serve the model, or not what the preset needs.
        """
        self.store.get([])  # a store that cannot be used is found now, too
        self.model.check()
        if self.preset.weights is not None:
            licence = self.preset.licence or "not stated"
            logger.info("%s: the licence of %s is %s.", self.preset.name, self.preset.weights, licence)
        if num_sources is None:
            num_sources = 1 if self.preset.task == "image-editing" else 0
        pictures, asking = Pictures(self.preset.image), self._asking()
        tiny = tiny_pictures(num_sources + 2)
        roles = dict.fromkeys(("candidate", "first"), tiny[-2]) | dict.fromkeys(("second", "reference"), tiny[-1])
        images = roles | {"source": tiny[:num_sources]}
        points = [{"question": "Is it there?", "category": "Follow"}]
        for question in self.preset.asks:
            given = {} if self.preset.before is None else {self.preset.before.name: points}
            item = sample_item(question)
            given |= {} if item is None else {"item": item}
            shown = {role: images[role] for role in question.images}
            request = asking.request(question, "a picture", shown, given, item, asking.sampling(0), pictures)
            request = replace(request, max_tokens=1)  # whether it is answered is what counts
            (reply,) = self.model.complete([request])
            how = f"the preset {self.preset.name}"
            check_reply(reply, request, self.model, _reader_of(question, item), how)

    def check_first_row(self, rows: Iterable[Mapping[str, Any]] | None) -> None:
        row = next(iter(rows or ()), {})
        if row:
            self._check_columns(row, row.get("source_image") is not None, "The dataset")

    def _check_columns(self, columns: Mapping[str, Any], has_source: bool, what: str) -> None:
        missing = [name for name in self.preset.columns if columns.get(name) in (None, [], ())]
        if missing:
            beaten = missing[0] == REFERENCE_COLUMN and self.preset.swap  # not one that candidates should be like
            drawn = " `arr-trl judge references` draws it with the base." if beaten else ""
            raise ValueError(
                f"{what} has no column {missing[0]!r}, or nothing in it, which the preset {self.preset.name} needs; it has "
                f"{', '.join(map(repr, columns)) or 'no further ones'}.{drawn}"
            )
        if self.preset.task == "image-editing" and not has_source:
            raise ValueError(
                f"{what} has no `source_image`, which the preset {self.preset.name} needs: it judges edits."
            )
        if self.preset.kind == "grid":
            grid = columns["grid"]
            if (
                not isinstance(grid, list | tuple)
                or len(grid) != 2
                or any(type(n) is not int or n < 1 for n in grid)
                or grid[0] * grid[1] < 2
            ):
                raise ValueError(f"{what} has grid={grid}, which has to be rows and columns of two and more pictures.")

    def _check_row(self, number: int, row: JudgeRow) -> None:
        least = 2 if self.pairwise else 1
        if len(row.images) < least:
            raise ValueError(f"Row {number} has {len(row.images)} image(s); {self.preset.name} needs {least}.")
        self._check_columns(row.columns, row.source_image is not None, f"Row {number}")

    def _asking(self) -> Asking:
        return Asking(self.preset, self.model, self.seed)

    def _compare(self, rows: list[JudgeRow]) -> tuple[list[Verdict], JudgeStats]:
        for number, row in enumerate(rows):
            self._check_row(number, row)
        pictures, asking = Pictures(self.preset.image), self._asking()
        points, stats = self._points(rows, asking, pictures)
        asked = [
            [] if isinstance(p, str) else self._asked(row, p, asking, pictures)
            for row, p in zip(rows, points, strict=True)
        ]
        questions = [
            q for of_row in asked for group in of_row for views in group for a in views for _, q, _ in a.questions
        ]
        try:
            answers, cost = ask(questions, self.model, self.store, on_answered=self._count_answers)
        except TemplateError as error:
            raise ValueError(f"A question of the preset {self.preset.name} cannot be put: {error}.") from error
        stats += cost
        verdicts = []
        for row, p, of_row in zip(rows, points, asked, strict=True):
            if isinstance(p, str):
                verdicts.append(Verdict(failure=p, candidates=len(row.images)))
                stats.comparisons += [p] * (1 if self.pairwise else len(row.images))
            else:
                verdicts.append(self._verdict(row, of_row, answers, stats))
        self._warn_of_little_mass(stats)
        return verdicts, stats

    def _points(
        self, rows: list[JudgeRow], asking: Asking, pictures: Pictures
    ) -> tuple[list[list[dict[str, str]] | str | None], JudgeStats]:
        """For every row what is asked before, a sentence where it could not be had."""
        before = self.preset.before
        if before is None:
            return [None] * len(rows), JudgeStats()
        questions = [asking.question(before, row, edited(row), 0, None, None, pictures) for row in rows]
        answers, stats = ask(questions, self.model, self.store, on_answered=self._count_answers)
        points: list[list[dict[str, str]] | str | None] = []
        for question in questions:
            answer = answers[question.blank.key]
            told = f"There are no {before.name} for {answer.prompt!r}: {answer.problem}"
            points.append(question.read(answer) if answer.status == "answered" else told)
        return points, stats

    def _asked(
        self, row: JudgeRow, points: list[dict[str, str]] | None, asking: Asking, pictures: Pictures
    ) -> list[list[list[Asked]]]:
        """
        For each candidate, or each pair, its opinions; one opinion is the views that belong together: the orders of a pair,
        a candidate on either side of the reference.
        """
        if self.pairwise:
            # one after the other: each pair has its orders, which may be drawn
            digests = (
                [image_digest(image) for image in row.images] if self.order == "random" else [""] * len(row.images)
            )
            groups = []
            for pair in combinations(range(len(row.images)), 2):
                orders = orders_shown(self.order, self.seed, row.prompt, [digests[i] for i in pair])
                groups.append([[pair_view(row, pair[order[0]], pair[order[1]]) for order in orders]])
        else:
            groups = [single_views(self.preset, row, i, pictures) for i in range(len(row.images))]
        return [
            [
                [asking.about(row, view, number, points, pictures) for view in views]
                for number in range(self.preset.passes)
                for views in group
            ]
            for group in groups
        ]

    def _verdict(
        self, row: JudgeRow, asked: list[list[list[Asked]]], answers: dict[str, StoredAnswer], stats: JudgeStats
    ) -> Verdict:
        opinions = [[self._opinions(views, answers, stats) for views in group] for group in asked]
        reasons = [_reason(group, answers) for group in asked]
        if not self.pairwise:
            scores = [self._score(group, said) for group, said in zip(asked, opinions, strict=True)]
            stats.comparisons += [None if score.values else score.problem for score in scores]
            return scored(scores, self.tie_margin, reasons[0])
        pairs = list(combinations(range(len(row.images)), 2))
        verdicts = []
        for pair, group, said, reason in zip(pairs, asked, opinions, reasons, strict=True):
            answered = [
                [(asked_.view.candidates, one) for asked_, one in zip(views, some, strict=True)]
                for views, some in zip(group, said, strict=True)
                if not isinstance(some, str)
            ]
            problem = next((some for some in said if isinstance(some, str)), "")
            verdicts.append(
                compared(answered, pair, self.tie_margin, reason) if answered else Verdict(failure=problem)
            )
        stats.comparisons += [verdict.failure for verdict in verdicts]
        if len(row.images) == 2:
            return verdicts[0]
        stats.orders += [verdict.consistent for verdict in verdicts if verdict.consistent is not None]
        stats.abstentions.append(sum(verdict.failure is not None for verdict in verdicts) / len(verdicts))
        return standings(len(row.images), pairs, verdicts)

    def _opinions(
        self, views: list[Asked], answers: dict[str, StoredAnswer], stats: JudgeStats
    ) -> list[Opinion] | str:
        """An opinion of each view, or why one of them is missing: half of two cannot be told from position bias."""
        found = [asked.readings(answers) for asked in views]
        for readings in found:
            if isinstance(readings, str):
                return readings
            stats.label_mass += [reading.mass for _, reading in readings if reading.mass is not None]
        return [opinion(self.preset, self.preset.combine, readings) for readings in found]

    def _score(self, group: list[list[Asked]], said: list[list[Opinion] | str]) -> Score:
        score = Score()
        for views, some in zip(group, said, strict=True):
            if isinstance(some, str):
                score.problem = some
                continue
            values = [
                1 - one.scores[0] if asked.view.against else one.scores[0]
                for asked, one in zip(views, some, strict=True)
            ]
            score.values.append(fmean(values))
            score.axes += [one.axes[0] for asked, one in zip(views, some, strict=True) if not asked.view.against]
        return score

    def _warn_of_little_mass(self, stats: JudgeStats) -> None:
        if self._has_warned or not stats.label_mass or fmean(stats.label_mass) >= USUAL_MASS:
            return
        self._has_warned = True
        warnings.warn(
            f"The first token of {self.model.model} is one of the labels of {self.preset.name} with a probability of "
            f"{fmean(stats.label_mass):.2g} only: it would rather say something else, and its scores rest on what is left. "
            "Turn thinking off where the model thinks."
        )


def _reader_of(question: Ask, item: Any) -> Callable[[Any], Any]:
    return lambda reply: question.read.read(reply, question.name, item)


def _reason(group: list[list[Asked]], answers: dict[str, StoredAnswer]) -> str:
    """The model's words on the first question of a group, where it said any."""
    for views in group:
        for asked in views:
            for _, question, _ in asked.questions:
                if reply := answers[question.blank.key].reply:
                    return reply.strip()[:_SHOWN]
    return ""
