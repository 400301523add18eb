"""
Verification: a frozen judge applies the criteria of a pair to its images. What it is given is a [`JudgeRow`], which
holds no label, in the order of the data, so that nothing it sees can depend on the label.
"""

from ..judges import JudgeRow, JudgeStats, RubricJudge, Verdict
from ..rubrics import Criterion, Rubric


def verify(judge: RubricJudge, rows: list[JudgeRow], criteria: list[list[str]]) -> tuple[list[Verdict], JudgeStats]:
    """
    Verdict on each row under its own criteria, both orders asked.

    Args:
        judge ([`RubricJudge`]): the verifier; its own rubric is not used.
        rows (`list[JudgeRow]`): images without labels.
        criteria (`list[list[str]]`): the criteria of each row.
    """
    rubrics = [
        Rubric(
            name="criteria",
            criteria=[Criterion(text=text) for text in texts],
            task="text-to-image" if row.source_image is None else "image-editing",
        )
        for row, texts in zip(rows, criteria, strict=True)
    ]
    return judge.compare_under(rows, rubrics)


def recovers(verdict: Verdict, winner: int) -> bool:
    """Whether a verdict is the label. Disagreement between the orders is a tie, and a tie is no pass."""
    return verdict.failure is None and verdict.winner == winner


def supporting(criteria: list[str], verdict: Verdict, winner: int) -> list[str]:
    """
    The criteria that the verifier found in favour of the winner, in both orders. Where only all of them together
    decided, those that speak for neither.
    """
    by_outcome = {text: result.winner for text, result in zip(criteria, verdict.criteria, strict=True)}
    return [t for t, found in by_outcome.items() if found == winner] or [
        t for t, found in by_outcome.items() if found is None
    ]
