"""From ranks to a decision: what several orders agree on, and what criteria add up to."""

from itertools import combinations

from ..rubrics import Rubric


def mean_ranks(scores: list) -> tuple[float, ...]:
    """Ranks of `scores`, 1 for the highest; equal scores share the mean of their ranks."""
    return tuple(sum(s > score for s in scores) + (sum(s == score for s in scores) + 1) / 2 for score in scores)


def best(ranks: tuple[float, ...]) -> int | None:
    """Index of the one best candidate, `None` when the best are level."""
    return ranks.index(min(ranks)) if ranks.count(min(ranks)) == 1 else None


def agreed_ranks(orders: list[tuple[float, ...]]) -> tuple[float, ...]:
    """A candidate is better than another only where every order says so; anything else is level."""
    n = len(orders[0])
    scores = [0.0] * n
    for i, j in combinations(range(n), 2):
        if all(ranks[i] < ranks[j] for ranks in orders):
            scores[i] += 1
        elif all(ranks[i] > ranks[j] for ranks in orders):
            scores[j] += 1
        else:
            scores[i] += 0.5
            scores[j] += 0.5
    return mean_ranks(scores)


def consistent(orders: list[tuple[float, ...]]) -> bool | None:
    """Whether all orders put every two candidates the same way round; `None` when there is only one."""
    if len(orders) == 1:
        return None
    pairs = list(combinations(range(len(orders[0])), 2))
    ways = [[(ranks[i] > ranks[j]) - (ranks[i] < ranks[j]) for i, j in pairs] for ranks in orders]
    return all(way == ways[0] for way in ways)


def weighted_scores(points: list[tuple[float, ...]], rubric: Rubric) -> list[tuple[float, float]]:
    """
    Add up what each candidate got on each criterion.

    Args:
        points (`list[tuple[float, ...]]`): per criterion, the points of every candidate.
        rubric ([`Rubric`]): weights, and which criteria are essential.

    Returns:
        `list[tuple[float, float]]`: per candidate the weighted sum over essential criteria, and over the others. They
        compare as tuples do: essential criteria first, the others where those are level.
    """
    scores = []
    for candidate in range(len(points[0])):
        sums = [0.0, 0.0]
        for criterion, of_criterion in zip(rubric.criteria, points, strict=True):
            sums[not criterion.essential] += criterion.weight * of_criterion[candidate]
        scores.append((round(sums[0], 9), round(sums[1], 9)))  # so that .1 + .2 is level with .3
    return scores
