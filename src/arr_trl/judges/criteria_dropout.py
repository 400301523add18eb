"""
Each comparison of a rollout under another part of the rubric, so that what the judge happens not to see in one of its
criteria is not in every reward.
"""

import random
from dataclasses import replace
from typing import Any

from ..rubrics import Rubric
from .verdict import Verdict


def kept_criteria(rubric: Rubric, dropout: float, *seed: Any) -> list[int]:
    """
    Numbers, from 1 on, of the criteria of a rubric that stay when each that is not essential goes with probability
    `dropout`: the same ones for the same `seed`, and never none.
    """
    draws = random.Random(" ".join(map(str, seed)))
    numbers = range(1, len(rubric.criteria) + 1)
    kept = [n for n in numbers if draws.random() >= dropout or rubric.criteria[n - 1].essential]
    return kept or [draws.choice(numbers)]


def part_of(rubric: Rubric, kept: list[int]) -> Rubric:
    """
    The rubric with some of its criteria; its content is another, and so is its key in the store. One whose parent is not
    among them stands for itself.
    """
    if len(kept) == len(rubric.criteria):
        return rubric
    numbers = {number: i for i, number in enumerate(kept, start=1)}
    criteria = (rubric.criteria[number - 1] for number in kept)
    criteria = tuple(c.model_copy(update={"parent": numbers.get(c.parent)}) for c in criteria)
    return rubric.model_copy(update={"criteria": criteria})


def numbered_as_in_the_whole(verdict: Verdict, kept: list[int]) -> Verdict:
    """A verdict under a part of a rubric, its criteria by their numbers in the whole."""
    return replace(verdict, criteria=tuple(replace(c, criterion=kept[c.criterion - 1]) for c in verdict.criteria))
