"""The baseline of rich feedback: of several pictures of a prompt the best against the worst, by any judge."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from ..judges import JudgeReward, TournamentJudge, Verdict
from .config import BestWorstConfig
from .outcome import OnDrawn, OnStage, PairOutcome, stop_when_broken, told_apart
from .painter import Painter, Wanted, edited, seed_of


class BestWorst:
    """
    Makes pairs of the best and the worst of several pictures, as UnifiedReward's preference data were made
    ([paper](https://huggingface.co/papers/2503.05236)). A judge says how the candidates of a prompt compare; the two ends
    are then a pair, on which it has to decide for the best, in both orders where it asks in both: otherwise there is no
    pair. Of level candidates the first is the best, and the last the worst.

    It is resumed by content, as [`RichPairs`] is.

    Args:
        painter ([`Painter`]): draws the candidates.
        judge ([`JudgeReward`]): compares them; a [`TournamentJudge`] does so two by two.
        config ([`BestWorstConfig`], *optional*): settings.
        on_stage (`Callable`, *optional*): called with the name of each stage and how many things it does, and what they are.
        on_drawn (`Callable`, *optional*): called with the number of pictures of each batch.
    """

    def __init__(
        self,
        painter: Painter,
        judge: JudgeReward,
        config: BestWorstConfig | None = None,
        on_stage: OnStage = lambda name, count, unit: None,
        on_drawn: OnDrawn = lambda count: None,
    ):
        self.painter = painter
        self.judge = judge
        self.pair_judge = judge.judge if isinstance(judge, TournamentJudge) else judge
        self.config = config or BestWorstConfig()
        self.on_stage = on_stage
        self.on_drawn = on_drawn

    def write(self, rows: Sequence[dict[str, Any]]) -> Iterator[list[PairOutcome]]:
        """
        What becomes of rows, `prompts_at_once` of them at a time.

        Args:
            rows (`Sequence[dict]`): rows with a `prompt`, and where `painter` edits a `source_image` and its `mask_image`.

        Raises:
            [`PairsError`]: when the judge gives no answers.
        """
        waiting, taken = iter(rows), set()
        number = 0
        while block := list(islice(waiting, self.config.prompts_at_once)):
            number += 1
            yield self._block(told_apart(block, taken), number)

    def _block(self, rows: list[dict[str, Any]], block: int) -> list[PairOutcome]:
        outcomes = [PairOutcome(row["prompt"], *edited(self.painter.policy, row), columns=row) for row in rows]
        n = self.config.num_candidates
        for outcome in outcomes:
            outcome.seeds = [seed_of(self.config.pictures_seed, k, outcome.prompt, outcome.source) for k in range(n)]
        self.on_stage(f"sample {block}", n * len(outcomes), "pictures")
        wanted = [Wanted(one.prompt, one.source, seed, one.mask) for one in outcomes for seed in one.seeds]
        paths = self.painter.draw(wanted, self.on_drawn)
        for number, outcome in enumerate(outcomes):
            outcome.images = paths[number * n : (number + 1) * n]

        self.on_stage(f"compare {block}", len(outcomes) * self.judge.questions_per_row(n), "questions")
        standings = self._verdicts(self.judge, outcomes)
        stop_when_broken("compare", standings, self.config)
        bests = [_keep_both_ends(outcome, standing) for outcome, standing in zip(outcomes, standings, strict=True)]

        ends = [outcome for outcome in outcomes if outcome.open]
        self.on_stage(f"judge {block}", len(ends) * self.pair_judge.questions_per_row(2), "questions")
        verdicts = self._verdicts(self.pair_judge, ends)
        stop_when_broken("judge", verdicts, self.config)
        for outcome, best, verdict in zip(ends, (best for best in bests if best is not None), verdicts, strict=True):
            outcome.decide(verdict)
            if outcome.made and verdict.winner != best:
                outcome.drop("the worst is better than the best")
        return outcomes

    @staticmethod
    def _verdicts(judge: JudgeReward, outcomes: list[PairOutcome]) -> list[Verdict]:
        return judge.compare([one.judge_row() for one in outcomes]) if outcomes else []


def _keep_both_ends(outcome: PairOutcome, standing: Verdict) -> int | None:
    """
    Leave the best and the worst candidate, in the order in which they were drawn; which of the two is the best, `None`
    where the outcome is dropped.
    """
    if standing.failure is not None:
        outcome.drop("no verdict", standing.failure)
        return None
    known = [(rank, number) for number, rank in enumerate(standing.ranks) if rank == rank]  # NaN for one without
    (best_rank, best), (worst_rank, worst) = min(known), max(known)
    if best_rank == worst_rank:
        outcome.drop("all candidates are level")
        return None
    kept = sorted((best, worst))
    outcome.images, outcome.seeds = ([values[i] for i in kept] for values in (outcome.images, outcome.seeds))
    return kept.index(best)
