"""What the embedded chat model finds wrong with a picture, and how it says to mend it."""

import numpy as np
import pytest

from arr_trl.autorubric import Writer
from arr_trl.judges import VerdictStore
from arr_trl.pairs.replies import PACKAGE, Fault, critique_question, instruct_question
from arr_trl.tiny_scenes import Caption, TinyScenesJudge, captions, check, edit_prompts, read, render
from arr_trl.tiny_scenes.edits import Edit
from arr_trl.tiny_scenes.preferences import draw_with_faults


CAPTION = "a red circle left of a blue square"


@pytest.fixture(params=["en", "zh"])
def writer(request):
    return Writer(TinyScenesJudge(), VerdictStore(), request.param, 2048, 0.0, package=PACKAGE)


def found(writer, shown, caption=CAPTION, source=None):
    """The faults of a picture of another caption, and the instruction that mends the first."""
    image = shown if not isinstance(shown, str) else render(Caption.parse(shown), np.random.default_rng(0))
    (faults,) = writer.ask([critique_question(caption, source, image, writer)])
    if not faults:
        return [], None
    (edits,) = writer.ask([instruct_question(caption, source, image, faults, writer, 3)])
    return faults, edits[0].instruction if edits else None


@pytest.mark.parametrize(("shown", "kinds", "instruction"), [
    (CAPTION, [], None),
    ("a red circle left of a green square", ["wrong"], "make the green square blue"),
    ("a red triangle left of a blue square", ["wrong"], "turn the red triangle into a circle"),
    ("a red circle right of a blue square", ["relation"], None),  # no one move to a corner mends it
    ("a purple triangle left of a green square", ["wrong", "wrong"], "make the green square red"),
])  # fmt: skip
def test_each_fault_is_found_and_mended_by_one_change(writer, shown, kinds, instruction):
    faults, told = found(writer, shown)
    assert [fault.kind for fault in faults] == kinds
    assert told == instruction


def test_what_cannot_be_mended_gives_way_to_what_can(writer):
    faults = [
        Fault(what="The red object is not left of the blue object.", where="", kind="relation", severity=3),
        Fault(what="The red object is a triangle and no circle.", where="there", kind="wrong", severity=3),
    ]
    image = render(Caption.parse("a red triangle right of a blue square"), np.random.default_rng(0))
    (edits,) = writer.ask([instruct_question(CAPTION, None, image, faults, writer, 3)])
    assert [(edit.instruction, edit.fault) for edit in edits] == [("turn the red triangle into a circle", 2)]


def test_a_picture_has_no_fault_exactly_where_everything_is_met():
    writer = Writer(TinyScenesJudge(), VerdictStore(), "en", 2048, 0.0, package=PACKAGE)
    rng = np.random.default_rng(0)
    for text in captions("train")[:60]:
        image = draw_with_faults(Caption.parse(text), 0.2, rng)[0]
        faults, told = found(writer, image, text)
        assert bool(faults) != all(check(Caption.parse(text), read(image)).values())
        if told is not None:
            Edit.parse(told)


def test_an_edit_that_was_not_done_is_asked_for_again(writer):
    row = edit_prompts("train[:1]")[0]
    faults, told = found(writer, row["source_image"], row["prompt"], row["source_image"])
    assert faults[0].what == f"It was not done: {row['prompt']}."
    assert told == row["prompt"]
