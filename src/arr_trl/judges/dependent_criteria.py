"""Criteria that depend on others: where a picture fails the parent, the child is void for it."""

from itertools import combinations

from ..rubrics import Rubric


_PASSES = 0.5  # of the range of scores


def ancestors(rubric: Rubric) -> list[list[int]]:
    """Of each criterion the places of those that it depends on, directly or not; a parent stands before its children."""
    found: list[list[int]] = []
    for criterion in rubric.criteria:
        parent = None if criterion.parent is None else criterion.parent - 1
        found.append([] if parent is None else [parent, *found[parent]])
    return found


def without_void_scores(scores: list[tuple[float, ...]], rubric: Rubric) -> list[tuple[float, ...]]:
    """
    Scores of which those that are void are 0, as a question of a checklist that another one rules out is not met
    ([paper](https://huggingface.co/papers/2310.18235)).

    Args:
        scores (`list[tuple[float, ...]]`): per criterion, the score of every candidate from 0 to 1; below .5 it fails.
        rubric ([`Rubric`]): which criterion depends on which.
    """
    return [
        tuple(
            0.0 if any(scores[above][candidate] < _PASSES for above in of_criterion) else score
            for candidate, score in enumerate(of_candidates)
        )
        for of_candidates, of_criterion in zip(scores, ancestors(rubric), strict=True)
    ]


def points_of_ranks(criteria: tuple[tuple[float, ...], ...], rubric: Rubric) -> list[tuple[float, ...]]:
    """
    What each candidate gets on each criterion: how many of the others it beats, one half for each that is level with it. Of
    two candidates of which one is better on a parent, the child says nothing, and they are level there.

    Args:
        criteria (`tuple[tuple[float, ...], ...]`): per criterion, the rank of every candidate, 1 for the best.
        rubric ([`Rubric`]): which criterion depends on which.
    """
    points = []
    for ranks, above in zip(criteria, ancestors(rubric), strict=True):
        of_criterion = [0.0] * len(ranks)
        for i, j in combinations(range(len(ranks)), 2):
            is_void = any(criteria[parent][i] != criteria[parent][j] for parent in above)
            share = 0.5 if is_void or ranks[i] == ranks[j] else float(ranks[i] < ranks[j])
            of_criterion[i] += share
            of_criterion[j] += 1 - share
        points.append(tuple(of_criterion))
    return points
