"""Several judges that vote, or whose scores are weighed."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal

from ..rubrics import Rubric
from .aggregate import best, mean_ranks
from .preset import Preset
from .rehearsal import Rehearsal
from .reward import JudgeReward, verdict_rewards
from .row import JudgeRow
from .scores import score_verdict, z_scores
from .stats import JudgeStats
from .verdict import Verdict


RULES = ("majority", "mean_margin", "weighted_scores")


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
            its winner. `"weighted_scores"`: the weighted mean of what each judge would reward the candidates with, which
            becomes the reward; a judge that has no score for one of them drops out of that row, with its weight.
        tie_margin (`float`, *optional*, defaults to `0.0`):
            Mean margin up to which a pair is a tie, with `"mean_margin"`; lead up to which the best are level, with
            `"weighted_scores"`.
        weights (`list[float]`, *optional*):
            With `"weighted_scores"`, how much each judge counts; 1 each if not given.
        normalise (`str`, *optional*, defaults to `"group"`):
            With `"weighted_scores"`, what becomes of scores before they are weighed: `"group"` takes each judge's z-score
            among the candidates of a prompt, so that none drowns the others by its scale; a judge to which all are level
            says nothing. `"none"` leaves them as they are.
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            See [`RubricJudge`].
        failure_window (`int`, *optional*, defaults to `128`):
            See [`RubricJudge`].
    """

    def __init__(
        self,
        judges: list[JudgeReward],
        rule: Literal["majority", "mean_margin", "weighted_scores"] = "majority",
        tie_margin: float = 0.0,
        weights: list[float] | None = None,
        normalise: Literal["group", "none"] = "group",
        max_failure_rate: float | None = 0.5,
        failure_window: int = 128,
    ):
        super().__init__(max_failure_rate, failure_window)
        if len(judges) < 2:
            raise ValueError(f"An ensemble needs at least two judges, not {len(judges)}.")
        if rule not in RULES:
            raise ValueError(f"rule={rule!r} is not one of {', '.join(map(repr, RULES))}.")
        if normalise not in ("group", "none"):
            raise ValueError(f"normalise={normalise!r} is not one of 'group', 'none'.")
        if weights is not None and rule != "weighted_scores":
            raise ValueError(f"`weights` belong to rule='weighted_scores'; rule={rule!r} counts all judges alike.")
        weights = [1.0] * len(judges) if weights is None else list(weights)
        if len(weights) != len(judges) or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"weights={weights} have to be {len(judges)} numbers above 0, one for each judge.")
        self.judges = list(judges)
        self.rule = rule
        self.tie_margin = tie_margin
        self.weights = weights
        self.normalise = normalise
        self.__name__ = "ensemble_judge"  # what metrics are filed under

    def questions_per_row(self, num_candidates: int) -> int:
        return sum(judge.questions_per_row(num_candidates) for judge in self.judges)

    @property
    def answered(self) -> int:
        return sum(judge.answered for judge in self.judges)

    @property
    def rubrics(self) -> list[Rubric]:
        return [rubric for judge in self.judges for rubric in judge.rubrics]

    @property
    def presets(self) -> list[Preset]:
        return [preset for judge in self.judges for preset in judge.presets]

    @property
    def model_names(self) -> list[str]:
        return [name for judge in self.judges for name in judge.model_names]

    @property
    def devices(self) -> list[str]:
        return [device for judge in self.judges for device in judge.devices]

    def check(self) -> None:
        for judge in self.judges:
            judge.check()

    def check_first_row(self, rows: Iterable[Mapping[str, Any]] | None) -> None:
        for judge in self.judges:
            judge.check_first_row(rows)

    def check_for(self, num_candidates: int, num_sources: int | None = None) -> None:
        for judge in self.judges:
            judge.check_for(num_candidates, num_sources)

    def rehearse(self, row: JudgeRow) -> list[Rehearsal]:
        return [said for judge in self.judges for said in judge.rehearse(row)]

    @property
    def sleeps(self) -> bool:
        return any(judge.sleeps for judge in self.judges)

    @contextmanager
    def awake(self) -> Iterator[None]:
        with ExitStack() as stack:
            for judge in self.judges:
                stack.enter_context(judge.awake())
            yield

    def untied(self) -> "EnsembleJudge":
        untied = copy.copy(self)
        untied.judges, untied.tie_margin = [judge.untied() for judge in self.judges], 0.0
        return untied

    def probe(self) -> "EnsembleJudge":
        probe = self.untied()
        probe.judges = [judge.probe() for judge in self.judges]
        return probe

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
            if self.rule == "weighted_scores":
                verdicts.append(self._weighted(of_row))
            else:
                verdicts.append(self._combine(votes) if votes else of_row[0])
        return verdicts, stats

    @property
    def names(self) -> list[str]:
        """What the judges' scores are filed under: their names, numbered where several have the same."""
        names = [getattr(judge, "__name__", type(judge).__name__) for judge in self.judges]  # as TRL names functions
        return [n if names.index(n) == i else f"{n}_{names[: i + 1].count(n)}" for i, n in enumerate(names)]

    def _weighted(self, said: tuple[Verdict, ...]) -> Verdict:
        by_judge = [verdict_rewards(verdict) for verdict in said]
        axes = tuple(
            (name, tuple(math.nan if score is None else score for score in scores))
            for name, scores in zip(self.names, by_judge, strict=True)
        )
        # a candidate without a score cannot be compared with the others by this judge
        whole = [(w, scores) for w, scores in zip(self.weights, by_judge, strict=True) if None not in scores]
        if not whole:
            reasons = [verdict.failure for verdict in said if verdict.failure is not None]
            failure = reasons[0] if reasons else "No judge of the ensemble has a score for every candidate."
            return Verdict(failure=failure, candidates=said[0].candidates, axes=axes)
        if self.normalise == "group":
            whole = [(weight, z_scores(scores)) for weight, scores in whole]
        total = sum(weight for weight, _ in whole)
        means = [sum(w * scores[i] for w, scores in whole) / total for i in range(said[0].candidates)]
        verdict = score_verdict(means, self.tie_margin, self.__name__)
        agreeing = next((v for v in said if v.failure is None and v.winner == verdict.winner), said[0])
        orders = [v.consistent for v in said if v.consistent is not None]
        return replace(
            verdict,
            consistent=all(orders) if orders else None,
            first_position=tuple(first for v in said for first in v.first_position),
            reason=agreeing.reason,
            axes=axes,
        )

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
