"""The judge: asks a vision chat model which candidate is better under a rubric."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal

from PIL import Image

from ..chat import ChatModel, ChatRequest, HTTPChatModel
from ..digests import image_digest
from ..rubrics import Criterion, Rubric
from .auto_rubric import auto_rubric_question
from .calibration import Calibration
from .chat_judge import ChatJudge
from .choice import ChoiceMode
from .criteria_dropout import kept_criteria, numbered_as_in_the_whole, part_of
from .masks import named_with_mask, with_mask
from .orders import ORDERS, orders_shown
from .pointwise import PointwiseMode
from .prompts import LANGUAGES, render_content, template_id
from .questions import Question, ask, content_key
from .ranks import RanksMode
from .rehearsal import check_reply, tiny_pictures
from .row import JudgeRow
from .rubric_source import resolve_rubric
from .stats import JudgeStats
from .store import StoredAnswer, VerdictStore
from .verdict import Verdict


class RubricJudge(ChatJudge):
    """
    A frozen vision-language model that judges candidates under a rubric you can read (Auto-Rubric as Reward,
    [paper](https://huggingface.co/papers/2605.08354)). It is a reward function in TRL's protocol.

    Every pair is asked about in both orders, because a judge that prefers the first image would otherwise be the
    reward: a candidate wins only where both orders say so, and disagreement is a tie. A reply that is not the JSON
    object asked for is asked for once more, with the error. What is still no answer makes the verdict a failure, and
    so does one missing order of two: half an answer cannot be told from position bias. Failures have no reward
    (`None`), so that a trainer can mask them.

    Args:
        rubric ([`Rubric`] or `str` or `Path`):
            The rubric; a JSON file or a text file that holds it; a repository on the Hub with a `rubric.json`; or
            `"auto"`, for which the model first writes criteria for every prompt.
        model (`str` or [`ChatModel`]):
            Name of the model at `base_url`, or any chat model.
        base_url (`str`, *optional*):
            Address of an OpenAI-compatible server; see [`HTTPChatModel`] for this and `api_key`.
        api_key (`str`, *optional*):
            Secret for the server.
        mode (`str`, *optional*, defaults to `"ranks"`):
            `"ranks"` asks for JSON with findings, a reason and ranks; it takes two or more candidates. `"choice"` asks
            for one token and reads its log-probability, which is much cheaper and has a margin, for pairs and servers
            that report log-probabilities. `"pointwise"` asks for a score of each candidate alone.
        order (`str`, *optional*, defaults to `"both"`):
            `"both"` asks in the given and the reversed order, `"random"` in one order drawn from `seed` and the
            content of the row, `"fixed"` in the given order. Pointwise questions have no order.
        decide (`str`, *optional*, defaults to `"ranks"`):
            `"ranks"` takes the overall ranks (or score) of the model. `"criteria"` adds up what it said per criterion
            by weight: essential criteria decide, the others where those are level. Not for `mode="choice"`.
        tie_margin (`float`, *optional*, defaults to `0.05`):
            In `mode="choice"`, the difference of probabilities up to which a pair is a tie, 0 to 1.
        calibration ([`~arr_trl.judges.Calibration`] or `str` or `Path`, *optional*):
            In `mode="choice"`, a temperature and a tie margin that were fitted to labels, or the file that
            `arr-trl judge calibrate` wrote. It takes the place of `tie_margin`.
        score_range (`tuple[int, int]`, *optional*, defaults to `(0, 10)`):
            In `mode="pointwise"`, the worst and the best score. Rewards are scaled to 0 to 1.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the prompt templates, `"en"` or `"zh"`.
        num_criteria (`int`, *optional*, defaults to `5`):
            With `rubric="auto"`, the most criteria per prompt.
        store (`str` or `Path`, *optional*):
            SQLite file that keeps every question and answer: a question that was answered is never asked again, one
            whose reply was no answer by the next run, and `arr-trl judge log` shows what is in it. Without it the
            latest answers are kept in memory.
        max_tokens (`int`, *optional*, defaults to `1024`):
            Longest reply.
        temperature (`float`, *optional*, defaults to `0.0`):
            Sampling temperature of the chat model.
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            Share of failures in the last `failure_window` comparisons above which rewards are refused with a
            [`JudgeFailureError`]; `None` never refuses.
        failure_window (`int`, *optional*, defaults to `128`):
            Number of comparisons that `max_failure_rate` looks back on.
        criteria_dropout (`float`, *optional*, defaults to `0.0`):
            Probability with which each criterion that is not essential is left out of a comparison that a rollout is
            rewarded by. Evaluations are under the whole rubric.
        seed (`int`, *optional*, defaults to `0`):
            Seed of `order="random"` and of `criteria_dropout`.

    Example:
    ```python
    >>> judge = RubricJudge(
    ...     rubric="rubric.json", model="Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1"
    ... )
    >>> judge.check()
    >>> judge(prompts=["a red cube"] * 2, completions=[image, other_image])
    [1.0, 0.0]
    ```
    """

    def __init__(
        self,
        rubric: Rubric | str | Path,
        model: str | ChatModel,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        mode: Literal["ranks", "choice", "pointwise"] = "ranks",
        order: Literal["both", "random", "fixed"] = "both",
        decide: Literal["ranks", "criteria"] = "ranks",
        tie_margin: float = 0.05,
        calibration: Calibration | str | Path | None = None,
        score_range: tuple[int, int] = (0, 10),
        language: Literal["en", "zh"] = "en",
        num_criteria: int = 5,
        store: str | Path | None = None,
        max_tokens: int = 1024,
        temperature: float = 0.0,
        max_failure_rate: float | None = 0.5,
        failure_window: int = 128,
        criteria_dropout: float = 0.0,
        seed: int = 0,
    ):
        super().__init__(max_failure_rate, failure_window)
        for name, value, allowed in (
            ("mode", mode, ("ranks", "choice", "pointwise")),
            ("order", order, ORDERS),
            ("decide", decide, ("ranks", "criteria")),
            ("language", language, LANGUAGES),
        ):
            if value not in allowed:
                raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, allowed))}.")
        if mode == "choice" and decide == "criteria":
            raise ValueError("mode='choice' has no answers per criterion; use decide='ranks' or mode='ranks'.")
        if mode != "choice" and calibration is not None:
            raise ValueError(f"mode={mode!r} has no margins that a calibration could change; mode='choice' has.")
        if score_range[0] >= score_range[1]:
            raise ValueError(f"score_range={score_range} has to be the worst and the best score, such as (0, 10).")
        if not 0 <= criteria_dropout < 1:
            raise ValueError(f"criteria_dropout={criteria_dropout} is a probability, 0 or greater and less than 1.")
        if not isinstance(model, str) and base_url is not None:
            raise ValueError("`base_url` belongs to a model given by name; here `model` is a chat model already.")
        if isinstance(calibration, str | Path):
            calibration = Calibration.load(calibration)
        self.rubric = resolve_rubric(rubric)
        self.model = HTTPChatModel(model, base_url=base_url, api_key=api_key) if isinstance(model, str) else model
        self.mode = {
            "ranks": RanksMode(decide),
            "choice": ChoiceMode(tie_margin)
            if calibration is None
            else ChoiceMode(calibration.tie_margin, calibration.temperature),
            "pointwise": PointwiseMode(decide, score_range),
        }[mode]
        self.order = order
        self.language = language
        self.num_criteria = num_criteria
        self.store = VerdictStore(store)
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.criteria_dropout = criteria_dropout
        self.seed = seed
        self.__name__ = "rubric_judge"  # what metrics are filed under
        if calibration is not None:
            calibration.check_judge(self)

    def questions_per_row(self, num_candidates: int) -> int:
        orders = [tuple(range(num_candidates))] * (2 if self.order == "both" else 1)
        return len(self.mode.views(orders)) + (self.rubric is None)

    @property
    def rubrics(self) -> list[Rubric]:
        return [] if self.rubric is None else [self.rubric]

    def untied(self) -> "RubricJudge":
        untied = copy.copy(self)
        if isinstance(self.mode, ChoiceMode):
            untied.mode = replace(self.mode, tie_margin=0.0)
        return untied

    def probe(self) -> "RubricJudge":
        probe = self.untied()
        probe.store, probe.temperature = VerdictStore(), 0.0
        return probe

    def check(self) -> None:
        """As [`~RubricJudge.check_for`], for pairs."""
        self.check_for(num_candidates=2)

    def check_for(self, num_candidates: int, num_sources: int | None = None) -> None:
        """
        Ask as the judge will ask, with as many tiny pictures and its schema or choices, after a sign of life.

        Raises:
            `ConnectionError`: when the server does not answer.
            `PermissionError`: when it refuses the credentials.
            `ValueError`: when it does not serve the model, or not what the judge's mode needs.
        """
        self.store.get([])  # a store that cannot be used is found now, too
        with self.awake():
            self._check_model(num_candidates, num_sources)

    def _check_model(self, num_candidates: int, num_sources: int | None) -> None:
        self.model.check()
        if num_sources is None:
            num_sources = sum(rubric.task == "image-editing" for rubric in self.rubrics)
        (shown, *_) = self.mode.views([tuple(range(num_candidates))])
        choosing = isinstance(self.mode, ChoiceMode)
        content = [{"type": "text", "text": "Answer with the number 1 or 2." if choosing else "Say OK."}]
        content += [{"type": "image", "image": image} for image in tiny_pictures(num_sources + len(shown))]
        rubric = self.rubric or Rubric(name="sample", criteria=[Criterion(text="All is as it was asked for.")])
        request = self._asking([{"role": "user", "content": content}], len(shown), rubric)
        request = replace(request, max_tokens=1)  # whether it is answered is what counts
        (reply,) = self.model.complete([request])
        check_reply(reply, request, self.model, lambda reply: self.mode.read(reply, shown, rubric))

    def compare_under(self, rows: list[JudgeRow], rubrics: list[Rubric]) -> tuple[list[Verdict], JudgeStats]:
        """
        Judge every row under a rubric of its own, whatever the judge's rubric is.

        Returns:
            `tuple(list[Verdict], JudgeStats)`: a verdict per row, and what they cost.
        """
        self._check_rows(rows, rubrics)
        return self._under(rows, rubrics)

    def _compare(self, rows: list[JudgeRow]) -> tuple[list[Verdict], JudgeStats]:
        self._check_rows(rows, [self.rubric] * len(rows))
        rubrics, stats = self._rubric_of_each(rows)
        verdicts, cost = self._under(rows, rubrics)
        stats += cost
        return verdicts, stats

    def _check_rows(self, rows: list[JudgeRow], rubrics: list[Rubric | None]) -> None:
        for number, (row, rubric) in enumerate(zip(rows, rubrics, strict=True)):
            if len(row.images) < 2:
                raise ValueError(f"Row {number} has {len(row.images)} image(s); a judge compares at least two.")
            if rubric is not None and rubric.task == "image-editing" and row.source_image is None:
                raise ValueError(f"Row {number} has no `source_image`, which the editing rubric {rubric.name} needs.")

    def _under(self, rows: list[JudgeRow], rubrics: list[Rubric | str]) -> tuple[list[Verdict], JudgeStats]:
        """A verdict for every row; a sentence in place of a rubric becomes the failure of its row."""
        digests: dict[int, str] = {}  # an image is in several questions: hash it once
        for row in rows:
            for image in (*row.images, *row.sources, *_mask_of(row)):
                if id(image) not in digests:
                    digests[id(image)] = image_digest(image)
        kept = [self._kept(row, rubric, digests) for row, rubric in zip(rows, rubrics, strict=True)]
        rubrics = [r if k is None else part_of(r, k) for r, k in zip(rubrics, kept, strict=True)]
        asked = [
            [] if isinstance(rubric, str) else self._questions(row, rubric, digests)
            for row, rubric in zip(rows, rubrics, strict=True)
        ]
        of_rubrics = {r.content_hash: r for r in rubrics if isinstance(r, Rubric)}
        every = [question for questions in asked for question in questions]
        answers, cost = ask(every, self.model, self.store, of_rubrics.values(), self._count_answers)
        verdicts = [
            self._verdict(row, rubric, questions, answers)
            for row, rubric, questions in zip(rows, rubrics, asked, strict=True)
        ]
        return [v if k is None else numbered_as_in_the_whole(v, k) for v, k in zip(verdicts, kept, strict=True)], cost

    def _kept(self, row: JudgeRow, rubric: Rubric | str, digests: dict[int, str]) -> list[int] | None:
        """The criteria that a row is judged by, where these are not all."""
        if isinstance(rubric, str) or not (row.rewarded and self.criteria_dropout):
            return None
        # drawn from the content: the same row is judged by the same ones after a resume
        shown = (digests[id(image)] for image in row.images)
        return kept_criteria(rubric, self.criteria_dropout, self.seed, row.prompt, *shown)

    def _rubric_of_each(self, rows: list[JudgeRow]) -> tuple[list[Rubric | str], JudgeStats]:
        """The rubric for every row; a sentence where it could not be had."""
        if self.rubric is not None:
            return [self.rubric] * len(rows), JudgeStats()
        questions = [
            auto_rubric_question(
                row.prompt,
                "text-to-image" if row.source_image is None else "image-editing",
                self.model,
                self.language,
                self.num_criteria,
                self.max_tokens,
                self.temperature,
            )
            for row in rows
        ]
        answers, stats = ask(questions, self.model, self.store, on_answered=self._count_answers)
        rubrics: list[Rubric | str] = []
        for question in questions:
            answer = answers[question.blank.key]
            if answer.status == "answered":
                rubrics.append(question.read(answer))
            else:
                rubrics.append(f"There are no criteria for {answer.prompt!r}: {answer.problem}")
        return rubrics, stats

    def _questions(self, row: JudgeRow, rubric: Rubric, digests: dict[int, str]) -> list[Question]:
        name = f"{self.mode.template}.{self.language}"
        template = named_with_mask(template_id(name), row.mask, self.language)
        model = (self.model.model, self.model.settings, self.temperature, self.max_tokens)
        variables = self.mode.variables(len(row.images), rubric)
        source = tuple(digests[id(image)] for image in row.sources)
        questions = []
        for positions in self.mode.views(self._orders(row, digests)):
            shown = (*source, *(digests[id(image)] for image in (*(row.images[p] for p in positions), *_mask_of(row))))
            content = (rubric.content_hash, row.prompt, len(source), *shown)
            key = content_key(*model, template, variables, *content)
            blank = StoredAnswer(
                key=key,
                status="failed",
                model=self.model.model,
                template=template,
                rubric=rubric.content_hash,
                prompt=row.prompt,
                images=shown,
                positions=positions,
                asked=0,
                server=self.model.settings.get("server"),
            )
            questions.append(
                Question(
                    blank,
                    request=lambda positions=positions: self._request(row, rubric, positions, name),
                    read=lambda answer, positions=positions: self.mode.read(answer, positions, rubric),
                )
            )
        return questions

    def _orders(self, row: JudgeRow, digests: dict[int, str]) -> list[tuple[int, ...]]:
        return orders_shown(self.order, self.seed, row.prompt, [digests[id(image)] for image in row.images])

    def questions_about(self, row: JudgeRow) -> list[ChatRequest]:
        """
        What the model would be asked about a row, in every order, under the judge's rubric.

        Raises:
            `ValueError`: when the row has too few images, or lacks the source that the rubric needs.
        """
        self._check_rows([row], [self.rubric])
        digests = {id(image): image_digest(image) for image in row.images}
        return [self.request(row, positions) for positions in self.mode.views(self._orders(row, digests))]

    def request(self, row: JudgeRow, positions: tuple[int, ...]) -> ChatRequest:
        """What the model is asked about a row under the judge's rubric, its candidates shown in these positions."""
        return self._request(row, self.rubric, positions, f"{self.mode.template}.{self.language}")

    def _request(self, row: JudgeRow, rubric: Rubric, positions: tuple[int, ...], name: str) -> ChatRequest:
        content = render_content(
            name,
            images=[row.sources, *(row.images[p] for p in positions)],
            source=bool(row.sources),
            rubric=rubric.render(),
            prompt=row.prompt,
            **self.mode.variables(len(positions), rubric),
        )
        content = with_mask(content, row.mask, self.language)
        return self._asking([{"role": "user", "content": content}], len(positions), rubric)

    def _asking(self, messages: list[dict], shown: int, rubric: Rubric) -> ChatRequest:
        request = self.mode.request(messages, shown, rubric)
        return replace(request, max_tokens=self.max_tokens, temperature=self.temperature)

    def _verdict(
        self, row: JudgeRow, rubric: Rubric | str, questions: list[Question], answers: dict[str, StoredAnswer]
    ) -> Verdict:
        if isinstance(rubric, str):
            return Verdict(failure=rubric, candidates=len(row.images))
        readings = []
        for question in questions:
            answer = answers[question.blank.key]
            if answer.status != "answered":
                return Verdict(failure=answer.problem, candidates=len(row.images))
            readings.append(question.read(answer))
        return self.mode.verdict(readings, rubric)


def _mask_of(row: JudgeRow) -> list[Image.Image]:
    return [] if row.mask is None else [row.mask]
