"""The outcome of one comparison."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CriterionResult:
    """
    What the judge said on one criterion: `winner` is the index of the better candidate, `None` when they are level;
    `consistent` is `None` unless both orders were asked.
    """

    criterion: int
    winner: int | None
    consistent: bool | None = None


@dataclass(frozen=True)
class Verdict:
    """
    What a judge says of the candidates of one prompt.

    Args:
        winner (`int`, *optional*):
            Index of the best candidate; `None` for a tie and for a failure. `None` is never a number: ties and
            failures are masked, not scored 0.
        ranks (`tuple[float, ...]`, *optional*):
            Rank of every candidate, 1 is best, equal ranks for candidates that are level; `None` for a failure.
        scores (`tuple[float, ...]`, *optional*):
            Score of every candidate, where each was judged for itself by one number, or its win rate against the others;
            in the order of `ranks`. From 0 to 1, but for those of scorers and of presets without a scale, which have their
            own. NaN, and no rank, for a candidate of which nothing is known. They stand beside a `failure` where too few are
            known to compare.
        margin (`float`, *optional*):
            How clear the decision was, where the judge can tell: from 0 to 1, or on the scale of the scores.
        consistent (`bool`, *optional*):
            Whether both orders named the same winner; `None` when one order was asked or one answer is missing.
        first_position (`tuple[bool, ...]`):
            For each decisive answer, whether it preferred the image that was shown first.
        criteria (`tuple[CriterionResult, ...]`):
            Outcome per criterion, numbered from 1 as in the rubric.
        reason (`str`):
            The judge's own words.
        failure (`str`, *optional*):
            Why there is no verdict, as one sentence.
        candidates (`int`, *optional*, defaults to `2`):
            Number of candidates that were compared.
        axes (`tuple[tuple[str, tuple[float, ...]], ...]`):
            What stands behind the scores, by name: for each axis the score of every candidate, NaN where there is none.
    """

    winner: int | None = None
    ranks: tuple[float, ...] | None = None
    scores: tuple[float, ...] | None = None
    margin: float | None = None
    consistent: bool | None = None
    first_position: tuple[bool, ...] = ()
    criteria: tuple[CriterionResult, ...] = field(default_factory=tuple)
    reason: str = ""
    failure: str | None = None
    candidates: int = 2
    axes: tuple[tuple[str, tuple[float, ...]], ...] = ()

    @property
    def tie(self) -> bool:
        return self.winner is None and self.failure is None

    @property
    def clearness(self) -> float | None:
        """
        How clear a decision was: the judge's margin; where it has none, the balance of the criteria, and `None` without both.
        A decision that more criteria speak against than for, as an essential one can bring about, is the least clear there is.
        """
        if self.margin is not None or self.winner is None or not self.criteria:
            return self.margin
        sides = [0 if found.winner is None else 1 if found.winner == self.winner else -1 for found in self.criteria]
        return max(sum(sides), 0.5) / len(sides)

    @property
    def lead(self) -> float | None:
        """
        Of two candidates, by how much the first is ahead: what the judge calls a tie is one, and `None` where it cannot
        tell.
        """
        if self.scores is not None:
            lead = self.scores[0] - self.scores[1]
            return None if math.isnan(lead) else lead
        if self.tie:
            return None if self.margin is None else 0.0
        if self.margin is None or self.winner is None:
            return None
        return self.margin if self.winner == 0 else -self.margin
