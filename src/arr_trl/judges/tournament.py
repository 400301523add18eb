"""Groups of candidates, two by two: what a judge of pairs says of more than two as win rates."""

import copy
import math
import random
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal

from ..rubrics import Rubric
from .aggregate import best, mean_ranks
from .preset import Preset
from .rehearsal import Rehearsal
from .reward import JudgeReward
from .row import JudgeRow
from .stats import JudgeStats
from .verdict import Verdict


class TournamentJudge(JudgeReward):
    """
    Candidates compared two by two by another judge. The reward of each is its win rate over the comparisons that were
    answered, ties one half (Pref-GRPO, [paper](https://huggingface.co/papers/2508.20751)): a comparison that failed is in
    neither candidate's mean, and a candidate of which all failed has no reward.

    Args:
        judge ([`JudgeReward`]):
            Compares pairs, in both orders if it asks in both. It keeps the store.
        pairs (`str` or `int`, *optional*, defaults to `"all"`):
            Which pairs are compared: `"all"` n(n-1)/2 of them; `"cycle"`, each candidate with the next and the last with
            the first, n of them; or a number, how many opponents each candidate has, drawn at random, n·k/2 of them.
        seed (`int`, *optional*, defaults to `0`):
            Of the opponents, with the prompt: the same prompt has the same ones after a resume.
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            See [`RubricJudge`]; of pairs.
        failure_window (`int`, *optional*, defaults to `128`):
            See [`RubricJudge`]; of pairs.

    Example:
    ```python
    >>> judge = TournamentJudge(RubricJudge(rubric="rubric.json", model=model, mode="choice"), pairs=4)
    >>> rewards = judge(prompts, completions, num_generations=8)  # 16 pairs a prompt
    ```
    """

    def __init__(
        self,
        judge: JudgeReward,
        pairs: Literal["all", "cycle"] | int = "all",
        seed: int = 0,
        max_failure_rate: float | None = 0.5,
        failure_window: int = 128,
    ):
        super().__init__(max_failure_rate, failure_window)
        if pairs not in ("all", "cycle") and not (isinstance(pairs, int) and pairs >= 1):
            raise ValueError(
                f"pairs={pairs!r} is not 'all', 'cycle' or how many opponents each candidate has, at least 1."
            )
        self.judge = judge
        self.pairs = pairs
        self.seed = seed
        self.__name__ = "tournament_judge"  # what metrics are filed under

    def questions_per_row(self, num_candidates: int) -> int:
        return len(self._pairs_of("", num_candidates)) * self.judge.questions_per_row(2)

    @property
    def answered(self) -> int:
        return self.judge.answered

    @property
    def rubrics(self) -> list[Rubric]:
        return self.judge.rubrics

    @property
    def presets(self) -> list[Preset]:
        return self.judge.presets

    @property
    def model_names(self) -> list[str]:
        return self.judge.model_names

    @property
    def devices(self) -> list[str]:
        return self.judge.devices

    def check(self) -> None:
        self.judge.check()

    def check_first_row(self, rows: Iterable[Mapping[str, Any]] | None) -> None:
        self.judge.check_first_row(rows)

    def check_for(self, num_candidates: int, num_sources: int | None = None) -> None:
        self._pairs_of("", num_candidates)
        self.judge.check_for(2, num_sources)

    def rehearse(self, row: JudgeRow) -> list[Rehearsal]:
        return self.judge.rehearse(row)

    @property
    def sleeps(self) -> bool:
        return self.judge.sleeps

    def awake(self) -> AbstractContextManager:
        return self.judge.awake()

    def untied(self) -> "TournamentJudge":
        untied = copy.copy(self)
        untied.judge = self.judge.untied()
        return untied

    def probe(self) -> "TournamentJudge":
        probe = copy.copy(self)
        probe.judge = self.judge.probe()
        return probe

    def _pairs_of(self, prompt: str, n: int) -> list[tuple[int, int]]:
        every = list(combinations(range(n), 2))
        if self.pairs == "all" or n == 2:
            return every
        if self.pairs == "cycle":
            return sorted({tuple(sorted((i, (i + 1) % n))) for i in range(n)})
        if self.pairs >= n - 1:
            return every
        if self.pairs % 2 and n % 2:
            raise ValueError(
                f"{n} candidates cannot have {self.pairs} opponents each, since that would be {n * self.pairs}/2 pairs; "
                "make one of the two numbers even."
            )
        # in a random circle, each against its next k/2; with an odd k against the one opposite, too
        order = random.Random(f"{self.seed} {prompt}").sample(range(n), n)
        steps = [*range(1, self.pairs // 2 + 1), *([n // 2] if self.pairs % 2 else [])]
        return sorted({tuple(sorted((order[i], order[(i + step) % n]))) for i in range(n) for step in steps})

    def _compare(self, rows: list[JudgeRow]) -> tuple[list[Verdict], JudgeStats]:
        pairs = [self._pairs_of(row.prompt, len(row.images)) for row in rows]
        asked = [
            replace(row, images=(row.images[i], row.images[j]))
            for row, of_row in zip(rows, pairs, strict=True)
            for i, j in of_row
        ]
        said, stats = self.judge._compare(asked)
        stats.comparisons = [verdict.failure for verdict in said]
        stats.orders = [verdict.consistent for verdict in said if verdict.consistent is not None]
        answers, verdicts = iter(said), []
        for row, of_row in zip(rows, pairs, strict=True):
            of_pairs = [next(answers) for _ in of_row]
            stats.abstentions.append(sum(v.failure is not None for v in of_pairs) / len(of_pairs))
            verdicts.append(standings(len(row.images), of_row, of_pairs))
        return verdicts, stats


def standings(n: int, pairs: list[tuple[int, int]], verdicts: list[Verdict]) -> Verdict:
    """
    The verdict on some candidates of which pairs were compared.

    Args:
        n (`int`): how many candidates there are.
        pairs (`list[tuple[int, int]]`): the candidates of each pair.
        verdicts (`list[Verdict]`): what was said of each; a failure is in neither candidate's win rate.
    """
    wins, answered = [0.0] * n, [0] * n
    known = [(pair, verdict) for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.failure is None]
    for (i, j), verdict in known:
        share = 0.5 if verdict.winner is None else float(verdict.winner == 0)
        wins[i] += share
        wins[j] += 1 - share
        answered[i] += 1
        answered[j] += 1
    if not known:
        return Verdict(failure=verdicts[0].failure, candidates=n)
    rates = tuple(w / a if a else math.nan for w, a in zip(wins, answered, strict=True))
    there = [rate for rate in rates if not math.isnan(rate)]
    among = iter(mean_ranks(there))
    ranks = tuple(math.nan if math.isnan(rate) else next(among) for rate in rates)
    winner = best(tuple(math.inf if math.isnan(rank) else rank for rank in ranks))
    told = [verdict for pair, verdict in known if winner is not None and winner in pair and verdict.winner is not None]
    orders = [verdict.consistent for _, verdict in known if verdict.consistent is not None]
    return Verdict(
        winner=winner,
        ranks=ranks,
        scores=rates,
        consistent=all(orders) if orders else None,
        first_position=tuple(first for _, verdict in known for first in verdict.first_position),
        reason=told[0].reason if told else "",
        candidates=n,
    )
