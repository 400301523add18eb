import numpy as np
import pytest

from arr_trl.chat import ChatRequest
from arr_trl.judges import JudgeRow, RubricJudge
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.tiny_scenes.judge import TinyScenesJudge, zero_shot_rubric
from arr_trl.tiny_scenes.scenes import Caption, captions, render


CAPTION = "a red circle left of a blue square"


def draw(text, seed=0):
    return render(Caption.parse(text), np.random.default_rng(seed))


def scenes(count):
    """Rows whose candidates are a right and a wrong picture, the right one in turn first and second."""
    rows = []
    for i, text in enumerate(captions("train")[:count]):
        pair = (draw(text, i), draw(captions("test")[i % 240], i))
        rows.append(JudgeRow(text, pair if i % 2 == 0 else pair[::-1]))
    return rows


def judge_with(**settings):
    return RubricJudge(rubric=zero_shot_rubric(), model=TinyScenesJudge(**settings))


def test_the_picture_that_shows_the_caption_wins_wherever_it_stands():
    verdicts = judge_with().compare(scenes(40))
    assert [verdict.winner for verdict in verdicts] == [0, 1] * 20
    assert all(verdict.consistent for verdict in verdicts)


@pytest.mark.parametrize("mode", ["ranks", "choice", "pointwise"])
def test_a_run_can_start_with_it_in_every_mode(mode):
    judge = RubricJudge(rubric=zero_shot_rubric(), model=TinyScenesJudge(), mode=mode)
    judge.check()  # what `arr-trl rpo` does first
    assert [verdict.winner for verdict in judge.compare(scenes(4))] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("wrong", "criterion"),
    [
        ("a green circle left of a blue square", 1),
        ("a red triangle left of a blue square", 2),
        ("a red circle above a blue square", 3),
    ],
)
def test_each_fault_is_found_by_its_criterion(wrong, criterion):
    (verdict,) = judge_with().compare([JudgeRow(CAPTION, (draw(wrong), draw(CAPTION)))])
    assert verdict.winner == 1
    assert criterion in [c.criterion for c in verdict.criteria if c.winner == 1]


def test_two_right_pictures_are_a_tie():
    (verdict,) = judge_with().compare([JudgeRow(CAPTION, (draw(CAPTION, 1), draw(CAPTION, 2)))])
    assert verdict.tie
    assert verdict.consistent


def test_an_essential_criterion_decides_before_weights():
    wrong_shapes = draw("a red triangle left of a blue triangle")
    wrong_relation = draw("a red circle above a blue square")
    shapes = "Each object has the right shape."
    relation = "The relation of the objects is right."
    row = [JudgeRow(CAPTION, (wrong_shapes, wrong_relation))]

    def winner(*criteria):
        rubric = Rubric(name="r", criteria=criteria)
        return RubricJudge(rubric=rubric, model=TinyScenesJudge()).compare(row)[0].winner

    assert winner(Criterion(text=shapes, weight=2), Criterion(text=relation)) == 1
    assert winner(Criterion(text=shapes, weight=2), Criterion(text=relation, essential=True)) == 0


def test_a_criterion_it_does_not_understand_leaves_the_pictures_level():
    rubric = Rubric(name="r", criteria=[Criterion(text="The mood is melancholic.")])
    judge = RubricJudge(rubric=rubric, model=TinyScenesJudge())
    (verdict,) = judge.compare([JudgeRow(CAPTION, (draw(CAPTION), draw("a green circle above a red square")))])
    assert verdict.tie


def test_it_reads_only_the_messages():
    request = ChatRequest([{"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}])
    (reply,) = TinyScenesJudge().complete([request])
    assert reply.failure.kind == "refusal"


def test_faults_do_not_depend_on_what_was_asked_before():
    rows = scenes(30)
    settings = {"noise": 0.3, "position_bias": 0.3, "failure_rate": 0.2, "seed": 3}
    together = judge_with(**settings).compare(rows)
    backwards = judge_with(**settings).compare(rows[::-1])[::-1]
    assert together == backwards
    assert together != judge_with(**{**settings, "seed": 4}).compare(rows)


def test_faults_come_at_their_rates():
    rows = scenes(400)
    biased = RubricJudge(rubric=zero_shot_rubric(), model=TinyScenesJudge(position_bias=0.3), order="fixed")
    first = [v.winner == 0 for v in biased.compare(rows)]
    assert np.mean(first) == pytest.approx(0.5 + 0.3 / 2, abs=0.05)
    failing = RubricJudge(rubric=zero_shot_rubric(), model=TinyScenesJudge(failure_rate=0.5), order="fixed")
    # a failure is a reply that is no answer twice, since it is asked for again
    assert np.mean([v.failure is not None for v in failing.compare(rows)]) == pytest.approx(0.25, abs=0.06)


def test_shares_outside_zero_to_one_are_refused():
    with pytest.raises(ValueError, match=r"noise=1\.5 is a share"):
        TinyScenesJudge(noise=1.5)


def test_criteria_that_it_writes_it_can_apply():
    judge = RubricJudge(rubric="auto", model=TinyScenesJudge())
    verdicts = judge.compare(scenes(20))
    assert [verdict.winner for verdict in verdicts] == [0, 1] * 10
