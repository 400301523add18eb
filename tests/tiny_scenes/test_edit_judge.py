"""The embedded judge on edits: it sees the source first, and tells what was done from what had to stay."""

import dataclasses

import numpy as np
import pytest

from arr_trl.chat import ChatRequest
from arr_trl.judges import JudgeRow, RubricJudge
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.tiny_scenes import Edit, edits, read
from arr_trl.tiny_scenes.edits import CORNERS, apply, draw, place
from arr_trl.tiny_scenes.judge import TinyScenesJudge, edit_rubric


SCENE = (("red", "circle", "top left"), ("blue", "square", "bottom right"))
INSTRUCTION = "make the red circle green"


def source_objects():
    return place(SCENE, np.random.default_rng(0))


def picture(instruction=INSTRUCTION, **change_of_the_square):
    edited, square = apply(Edit.parse(instruction), source_objects(), np.random.default_rng(1))
    return draw([edited, dataclasses.replace(square, **change_of_the_square)])


def compare(*pictures, instruction=INSTRUCTION, **settings):
    judge = RubricJudge(rubric=edit_rubric(), model=TinyScenesJudge(), **settings)
    (verdict,) = judge.compare([JudgeRow(instruction, pictures, draw(source_objects()))])
    assert verdict.failure is None
    return verdict


@pytest.mark.parametrize("settings", [{}, {"mode": "choice"}, {"mode": "pointwise"}, {"language": "zh"}])
def test_the_picture_that_was_edited_beats_the_source_wherever_it_stands(settings):
    untouched = draw(source_objects())
    assert compare(picture(), untouched, **settings).winner == 0
    assert compare(untouched, picture(), **settings).winner == 1


@pytest.mark.parametrize(
    ("wrong", "criterion"),
    [
        (picture("make the red circle purple"), 1),
        (picture(color="yellow"), 2),
        (picture("turn the red circle into a triangle"), 1),
        (picture(shape="triangle"), 3),
        (picture(x=8.0), 4),
        (draw(source_objects()[1:]), 5),
    ],
)
def test_each_fault_is_found_by_its_criterion(wrong, criterion):
    verdict = compare(wrong, picture())
    assert verdict.winner == 1
    assert criterion in [c.criterion for c in verdict.criteria if c.winner == 1]


def test_the_same_candidates_are_judged_by_the_source_they_were_made_from():
    """What was kept and what was done can only be told from the source, so another one turns the verdict around."""
    moved = [dataclasses.replace(o, x=24.0 if o.color == "blue" else o.x, y=8.0 if o.color == "blue" else o.y)
             for o in source_objects()]  # fmt: skip
    row = (picture(), picture(x=24.0, y=8.0))
    judge = RubricJudge(rubric=edit_rubric(), model=TinyScenesJudge())
    verdicts = judge.compare([JudgeRow(INSTRUCTION, row, draw(source)) for source in (source_objects(), moved)])
    assert [verdict.winner for verdict in verdicts] == [0, 1]


def test_without_the_source_there_is_no_verdict():
    rubric = edit_rubric().model_copy(update={"task": "text-to-image"})
    judge = RubricJudge(rubric=rubric, model=TinyScenesJudge())
    (verdict,) = judge.compare([JudgeRow(INSTRUCTION, (picture(), draw(source_objects())))])
    assert "is not shown as BASE image" in verdict.failure


def test_one_criterion_about_all_that_stays_is_understood():
    rubric = Rubric(name="r", criteria=[Criterion(text="Whatever the instruction does not name stays the same.")])
    judge = RubricJudge(rubric=rubric, model=TinyScenesJudge())
    row = JudgeRow(INSTRUCTION, (picture(shape="triangle"), picture()), draw(source_objects()))
    assert judge.compare([row])[0].winner == 1


def test_criteria_that_it_writes_it_can_apply():
    rows = [
        JudgeRow(str(edit), (source, draw(_after(edit, source))), source)
        for edit, source in edits("train")[:20]
    ]  # fmt: skip
    judge = RubricJudge(rubric="auto", model=TinyScenesJudge())
    assert [verdict.winner for verdict in judge.compare(rows)] == [1] * 20


def _after(edit, source):
    """The objects seen in a source after `edit`, drawn anew."""
    corners = {(x < 16, y < 16): name for name, (x, y) in CORNERS.items()}
    scene = tuple((o.color, o.shape, corners[o.x < 16, o.y < 16]) for o in read(source))
    rng = np.random.default_rng(0)
    return apply(edit, place(scene, rng), rng)


def test_it_reads_only_the_messages():
    text = {"type": "text", "text": "Instruction: make it nicer"}
    (reply,) = TinyScenesJudge().complete([ChatRequest([{"role": "user", "content": [text]}])])
    assert reply.failure.kind == "refusal"


def test_the_example_rubric_is_the_one_for_edits(request):
    assert Rubric.load(request.config.rootpath / "examples" / "rubrics" / "tiny_scenes_edit.json") == edit_rubric()
