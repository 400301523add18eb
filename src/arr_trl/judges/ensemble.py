"""Several judges that vote."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from typing import Literal

from ..rubrics import Rubric
from .aggregate import best, mean_ranks
from .reward import JudgeReward
from .row import JudgeRow
from .stats import JudgeStats
from .verdict import Verdict


class EnsembleJudge(JudgeReward):
    """
    Several judges asked about the same candidates. A judge that gave no verdict abstains; there is a failure only
    where all of them do, and `judge/abstention_rate` says how many did.

    Args:
        judges (`list[JudgeReward]`):
            Two or more judges; each keeps its own store.
        rule (`str`, *optional*, defaults to `"majority"`):
            `"majority"`: a candidate is better than another when more judges say so than say the contrary.
            `"mean_margin"`: the mean of the signed margins decides, for pairs; a judge without margins counts 1 for
            its winner.
        tie_margin (`float`, *optional*, defaults to `0.0`):
            Mean margin up to which a pair is a tie, with `"mean_margin"`.
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            See [`RubricJudge`].
        failure_window (`int`, *optional*, defaults to `128`):
            See [`RubricJudge`].
    """

    def __init__(
        self,
        judges: list[JudgeReward],
        rule: Literal["majority", "mean_margin"] = "majority",
        tie_margin: float = 0.0,
        max_failure_rate: float | None = 0.5,
        failure_window: int = 128,
    ):
        super().__init__(max_failure_rate, failure_window)
        if len(judges) < 2:
            raise ValueError(f"An ensemble needs at least two judges, not {len(judges)}.")
        if rule not in ("majority", "mean_margin"):
            raise ValueError(f"rule={rule!r} is not one of 'majority', 'mean_margin'.")
        self.judges = list(judges)
        self.rule = rule
        self.tie_margin = tie_margin
        self.__name__ = "ensemble_judge"  # what metrics are filed under

    def questions_per_row(self, num_candidates: int) -> int:
        return sum(judge.questions_per_row(num_candidates) for judge in self.judges)

    @property
    def rubrics(self) -> list[Rubric]:
        return [rubric for judge in self.judges for rubric in judge.rubrics]

    @property
    def model_names(self) -> list[str]:
        return [name for judge in self.judges for name in judge.model_names]

    def check(self) -> None:
        for judge in self.judges:
            judge.check()

    def check_for(self, num_candidates: int, num_sources: int | None = None) -> None:
        for judge in self.judges:
            judge.check_for(num_candidates, num_sources)

    def _compare(self, rows: list[JudgeRow]) -> tuple[list[Verdict], JudgeStats]:
        pool = ThreadPoolExecutor(len(self.judges))  # most of the time is waiting for servers
        try:
            by_judge = list(pool.map(lambda judge: judge._compare(rows), self.judges))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupted caller is not kept until they answer
        stats = JudgeStats()
        for _, cost in by_judge:
            stats += cost
        verdicts = []
        for of_row in zip(*(verdicts for verdicts, _ in by_judge), strict=True):
            votes = [verdict for verdict in of_row if verdict.failure is None]
            stats.abstentions.append(1 - len(votes) / len(of_row))
            verdicts.append(self._combine(votes) if votes else of_row[0])
        return verdicts, stats

    def _combine(self, votes: list[Verdict]) -> Verdict:
        n = votes[0].candidates
        margin = None
        if self.rule == "majority":
            scores = [0.0] * n
            for i, j in combinations(range(n), 2):
                balance = sum((v.ranks[i] < v.ranks[j]) - (v.ranks[i] > v.ranks[j]) for v in votes)
                scores[i] += 0.5 if balance == 0 else float(balance > 0)
                scores[j] += 0.5 if balance == 0 else float(balance < 0)
            ranks = mean_ranks(scores)
        else:
            if n != 2:
                raise ValueError(f"rule='mean_margin' compares pairs, not {n} images; use rule='majority'.")
            signed = [(0 if v.tie else 1 if v.winner == 0 else -1) * _margin(v) for v in votes]
            mean = sum(signed) / len(signed)
            margin = abs(mean)
            ranks = (1.5, 1.5) if margin <= self.tie_margin else mean_ranks([mean, -mean])
        orders = [vote.consistent for vote in votes if vote.consistent is not None]
        agreeing = next((v for v in votes if v.winner == best(ranks)), votes[0])
        return replace(
            agreeing,
            winner=best(ranks),
            ranks=ranks,
            scores=None,
            margin=margin,
            consistent=all(orders) if orders else None,
            first_position=tuple(first for vote in votes for first in vote.first_position),
            criteria=(),
        )


def _margin(verdict: Verdict) -> float:
    return 1.0 if verdict.margin is None else verdict.margin
