"""A scorer as a judge, which can be a member of an ensemble, be calibrated, and be measured on labelled pairs."""

import copy
import time

from ..rewards import Scorer, reward_list
from .reward import JudgeReward
from .row import JudgeRow
from .scores import score_verdict
from .stats import JudgeStats
from .verdict import Verdict


class ScorerJudge(JudgeReward):
    """
    A judge that goes by the scores of a [`~arr_trl.rewards.Scorer`]: the higher one is better, and the lead of the best is
    the margin, on the scorer's own scale. Rewards are its scores. A candidate without a score has no reward, and where no
    candidate has one there is no verdict.

    Args:
        scorer ([`~arr_trl.rewards.Scorer`]):
            The scorer. It is given prompt and pictures, what was edited as `source_image`, and its `mask_image` where there is
            one; a scorer that needs other columns of the dataset goes into `reward_funcs` as it is.
        tie_margin (`float`, *optional*, defaults to `0.0`):
            The lead up to which the best are level. [`~arr_trl.judges.Calibration`] fits one.
        max_failure_rate (`float`, *optional*, defaults to `0.5`):
            See [`RubricJudge`].
        failure_window (`int`, *optional*, defaults to `128`):
            See [`RubricJudge`].
    """

    def __init__(
        self,
        scorer: Scorer,
        tie_margin: float = 0.0,
        max_failure_rate: float | None = 0.5,
        failure_window: int = 128,
    ):
        super().__init__(max_failure_rate, failure_window)
        self.scorer = scorer
        self.tie_margin = tie_margin
        self.__name__ = scorer.__name__

    def questions_per_row(self, num_candidates: int) -> int:
        return 0  # nobody is paid for it

    def check(self) -> None:
        self.scorer.check()

    def untied(self) -> "ScorerJudge":
        untied = copy.copy(self)
        untied.tie_margin = 0.0
        return untied

    def _compare(self, rows: list[JudgeRow]) -> tuple[list[Verdict], JudgeStats]:
        prompts = [row.prompt for row in rows for _ in row.images]
        images = [image for row in rows for image in row.images]
        edited = {}
        if any(row.sources for row in rows):
            edited = {"source_image": [row.sources for row in rows for _ in row.images]}
        if any(row.mask is not None for row in rows):
            edited["mask_image"] = [row.mask for row in rows for _ in row.images]
        started = time.perf_counter()
        scores = reward_list(self.scorer(prompts, images, **edited), self.__name__, len(images))
        stats = JudgeStats(latencies_s=[(time.perf_counter() - started) / len(images)] * len(images))
        self._count_answers(len(rows))
        found, verdicts = iter(scores), []
        for row in rows:
            verdicts.append(score_verdict([next(found) for _ in row.images], self.tie_margin, self.__name__))
        return verdicts, stats
