"""What criteria add up to."""

from arr_trl.judges.aggregate import mean_ranks, weighted_scores
from arr_trl.rubrics import Criterion, Rubric


def test_criteria_count_by_their_weight_and_essential_ones_apart():
    rubric = Rubric(name="r", criteria=[
        Criterion(text="a", weight=3), Criterion(text="b", weight=2), Criterion(text="c", weight=4, essential=True),
    ])  # fmt: skip
    # per criterion the points of two candidates
    assert weighted_scores([(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)], rubric) == [(2.0, 3.0), (2.0, 2.0)]


def test_one_heavy_criterion_outweighs_two_light_ones():
    rubric = Rubric(name="r", criteria=[Criterion(text=text, weight=w) for text, w in (("a", 3), ("b", 1), ("c", 1))])
    assert mean_ranks(weighted_scores([(1.0, 0.0), (0.0, 1.0), (0.0, 1.0)], rubric)) == (1.0, 2.0)


def test_tenths_that_add_up_to_the_same_are_level():
    rubric = Rubric(name="r", criteria=[Criterion(text="a"), Criterion(text="b")])
    assert mean_ranks(weighted_scores([(0.1, 0.3), (0.2, 0.0)], rubric)) == (1.5, 1.5)
