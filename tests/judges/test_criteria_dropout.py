"""Comparisons of a rollout under parts of the rubric: which, how often, and what is kept of it."""

from collections import Counter

import pytest
from PIL import Image

from arr_trl.judges import JudgeRow, RubricJudge, TournamentJudge
from arr_trl.judges.criteria_dropout import kept_criteria, part_of
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.tiny_scenes import TinyScenesJudge
from arr_trl.tiny_scenes.judge import zero_shot_rubric


RUBRIC = Rubric(
    name="four",
    criteria=(
        Criterion(text="First.", essential=True),
        *(Criterion(text=t) for t in ("Second.", "Third.", "Fourth.")),
    ),
)


def rows(count=24, rewarded=True):
    return [
        JudgeRow(
            "a red circle left of a blue square",
            tuple(Image.new("RGB", (8, 8), (i, 0, k)) for k in (0, 200)),
            rewarded=rewarded,
        )
        for i in range(count)
    ]


def test_criteria_go_as_often_as_asked_and_essential_ones_never():
    counts = Counter(n for seed in range(2000) for n in kept_criteria(RUBRIC, 0.25, seed))
    assert counts[1] == 2000
    assert all(1400 < counts[n] < 1600 for n in (2, 3, 4))


def test_some_criterion_always_stays():
    rubric = Rubric(name="two", criteria=(Criterion(text="First."), Criterion(text="Second.")))
    kept = [kept_criteria(rubric, 0.99, seed) for seed in range(200)]
    assert {len(numbers) for numbers in kept} == {1}
    assert {numbers[0] for numbers in kept} == {1, 2}


def test_whole_rubric_stays_the_rubric():
    assert part_of(RUBRIC, [1, 2, 3, 4]) is RUBRIC
    part = part_of(RUBRIC, [1, 3])
    assert [c.text for c in part.criteria] == ["First.", "Third."]
    assert part.content_hash != RUBRIC.content_hash


def asked_under(judge, some):
    """How many criteria each comparison was asked about, and the numbers in its verdict."""
    seen = []
    complete = judge.model.complete

    def listening(requests, on_reply=None):
        seen.extend("\n".join(str(part) for m in request.messages for part in m["content"]) for request in requests)
        return complete(requests, on_reply)

    judge.model.complete = listening
    verdicts = judge.compare(some)
    texts = [c.text for c in zero_shot_rubric().criteria]
    return [sum(text in question for text in texts) for question in seen], verdicts


def test_rollouts_are_judged_by_parts_and_evaluations_by_the_whole():
    judge = RubricJudge(zero_shot_rubric(), TinyScenesJudge(), criteria_dropout=0.5)
    counts, verdicts = asked_under(judge, rows())
    assert counts[::2] == counts[1::2]  # both orders by the same criteria
    assert len(set(counts)) > 1
    whole = len(zero_shot_rubric().criteria)
    numbers = Counter(c.criterion for verdict in verdicts for c in verdict.criteria)
    assert set(numbers) == set(range(1, whole + 1))  # by their places in the whole
    assert all(len(verdict.criteria) < 24 for verdict in verdicts)

    judge = RubricJudge(zero_shot_rubric(), TinyScenesJudge(), criteria_dropout=0.5)
    counts, _ = asked_under(judge, rows(rewarded=False))
    assert set(counts) == {whole}


def test_same_row_is_judged_by_the_same_criteria_and_is_asked_once(tmp_path):
    for calls in (48, 0):
        judge = RubricJudge(
            zero_shot_rubric(), TinyScenesJudge(), criteria_dropout=0.5, store=tmp_path / "judge.sqlite"
        )
        verdicts, stats = judge._compare(rows())
        assert stats.calls == calls
    other = RubricJudge(zero_shot_rubric(), TinyScenesJudge(), criteria_dropout=0.5, seed=1)
    assert [v.criteria for v in other.compare(rows())] != [v.criteria for v in verdicts]


def test_pairs_of_a_tournament_are_of_the_rollout_too():
    judge = RubricJudge(zero_shot_rubric(), TinyScenesJudge(), criteria_dropout=0.5)
    asked_under(judge, [])
    group = JudgeRow("a red circle", tuple(Image.new("RGB", (8, 8), (40 * k, 0, 0)) for k in range(5)), rewarded=True)
    seen = []
    compare = judge._compare
    judge._compare = lambda some: seen.extend(some) or compare(some)
    TournamentJudge(judge).compare([group])
    assert len(seen) == 10
    assert all(row.rewarded for row in seen)


@pytest.mark.parametrize("dropout", [1.0, -0.1])
def test_what_is_no_probability_is_refused(dropout):
    with pytest.raises(ValueError, match=r"is a probability, 0 or greater and less than 1"):
        RubricJudge(zero_shot_rubric(), TinyScenesJudge(), criteria_dropout=dropout)
