"""Held-out pairs: put aside before anything is written, and judged with the rubric and without any."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..data.preferences import Preference
from ..intervals import wilson_interval
from ..judges import JudgeRow, JudgeStats, RubricJudge, Verdict
from ..judges.aggregate import agreed_ranks, best
from ..judges.prompts import template_id
from ..judges.questions import Question, ask
from ..judges.template_question import template_question
from ..rubrics import Rubric
from .writer import PACKAGE, NoAnswer


class _Ranks(BaseModel):
    """The reply to which image is better; the reason stands first, so that it can help."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: str
    ranks: Annotated[list[Annotated[int, Field(ge=1, le=2)]], Field(min_length=2, max_length=2)]


def split(pairs: Sequence[Preference], holdout: float, seed: int) -> tuple[list[Preference], list[Preference]]:
    """
    Pairs to learn from and pairs to measure on. No prompt is on both sides, unless there is only one.

    Args:
        pairs (`Sequence[Preference]`): all pairs.
        holdout (`float`): share of the prompts whose pairs are held out; at least one prompt when it is not 0.
        seed (`int`): seed of the draw.
    """
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    units = prompts if len(prompts) > 1 else list(range(len(pairs)))
    count = min(len(units) - 1, max(1, round(holdout * len(units)))) if holdout else 0
    drawn = {units[i] for i in np.random.default_rng(seed).permutation(len(units))[:count]}
    held = [(pair.prompt if len(prompts) > 1 else number) in drawn for number, pair in enumerate(pairs)]
    return (
        [pair for pair, out in zip(pairs, held, strict=True) if not out],
        [pair for pair, out in zip(pairs, held, strict=True) if out],
    )


@dataclass(frozen=True)
class Agreement:
    """
    How a judge's verdicts, both orders asked, agree with labels.

    Args:
        pairs (`int`): number of pairs.
        right (`int`): pairs on which both orders named the labelled winner.
        ties (`int`): pairs on which they disagreed or found the images level.
        failures (`int`): pairs without a verdict.
    """

    pairs: int
    right: int
    ties: int
    failures: int

    @property
    def accuracy(self) -> float:
        """Share of the pairs that were right; neither a tie nor a failure is."""
        return self.right / self.pairs

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the accuracy."""
        return wilson_interval(self.accuracy, self.pairs)

    def summary(self) -> dict[str, Any]:
        low, high = self.interval
        return {"accuracy": round(self.accuracy, 4), "interval": [round(low, 4), round(high, 4)], **asdict(self)}


def agreement(winners: Sequence[int | NoAnswer | None], pairs: Sequence[Preference]) -> Agreement:
    """Winners that a judge named, against the labels."""
    return Agreement(
        pairs=len(pairs),
        right=sum(winner == pair.winner for winner, pair in zip(winners, pairs, strict=True)),
        ties=sum(winner is None for winner in winners),
        failures=sum(isinstance(winner, NoAnswer) for winner in winners),
    )


def with_rubric(pairs: Sequence[Preference], rubric: Rubric, judge: RubricJudge) -> tuple[list[Verdict], JudgeStats]:
    """The verdict on every pair under a rubric."""
    return judge.compare_under(judge_rows(pairs), [rubric] * len(pairs))


def winners_of(verdicts: Sequence[Verdict]) -> list[int | NoAnswer | None]:
    """The winner that each verdict names, `None` for a tie."""
    return [v.winner if v.failure is None else NoAnswer(v.failure, failed=False) for v in verdicts]


def without_rubric(pairs: Sequence[Preference], judge: RubricJudge) -> tuple[list[int | NoAnswer | None], JudgeStats]:
    """The winner of every pair when the same model is only asked which image is better, in both orders."""
    questions = [[_no_rubric_question(pair, order, judge) for order in ((0, 1), (1, 0))] for pair in pairs]
    answers, stats = ask([q for both in questions for q in both], judge.model, judge.store)
    winners: list[int | NoAnswer | None] = []
    for both in questions:
        of_pair = [answers[question.blank.key] for question in both]
        bad = next((answer for answer in of_pair if answer.status != "answered"), None)
        if bad is not None:
            winners.append(NoAnswer(bad.problem, failed=bad.status == "failed"))
        else:
            winners.append(best(agreed_ranks([q.read(a) for q, a in zip(both, of_pair, strict=True)])))
    return winners, stats


def judge_rows(pairs: Sequence[Preference]) -> list[JudgeRow]:
    """Pairs as a judge may see them: without labels, in the order of the data."""
    return [JudgeRow.of(pair) for pair in pairs]


def judge_templates(judge: RubricJudge, measured: bool) -> list[str]:
    """Templates that a judge asks with: with a rubric, and without one where there are pairs to measure on."""
    names = [template_id(f"{judge.mode.template}.{judge.language}")]
    return names + ([template_id(f"no_rubric.{judge.language}", PACKAGE)] if measured else [])


def _no_rubric_question(pair: Preference, order: tuple[int, int], judge: RubricJudge) -> Question:
    return template_question(
        f"no_rubric.{judge.language}",
        judge.model,
        _Ranks,
        prompt=pair.prompt,
        images=[pair.source_image, *(pair.images[i] for i in order)],
        max_tokens=judge.max_tokens,
        temperature=judge.temperature,
        package=PACKAGE,
        positions=order,
        mask=JudgeRow.of(pair).mask,
        read=lambda reply: tuple(float(reply.ranks[order.index(candidate)]) for candidate in (0, 1)),
        editing=pair.source_image is not None,
    )
