"""The editing world: an edit that is made is seen, and so is each thing that should have stayed and did not."""

import dataclasses

import numpy as np
import pytest

from arr_trl.tiny_scenes import Edit, check_edit, edit_prompts, edit_success, edits, read
from arr_trl.tiny_scenes.edits import CORNERS, EDIT_CRITERIA, EDIT_KINDS, apply, draw, edits_of, move_to, place, scenes


SCENE = (("red", "circle", "top left"), ("blue", "square", "bottom right"))


def met_by(instruction, change=lambda objects, rng: objects, done=True):
    """Which criteria a picture of SCENE meets that shows the edit (or none) and `change` besides."""
    rng = np.random.default_rng(0)
    edit = Edit.parse(instruction)
    before = place(SCENE, rng)
    after = change(apply(edit, before, rng) if done else before, rng)
    return check_edit(edit, read(draw(before)), read(draw(after)))


def failed(met):
    return {name for name, value in met.items() if not value}


def test_every_edit_that_is_drawn_meets_all_criteria():
    rng = np.random.default_rng(0)
    wrong, total = 0, 0
    for scene in scenes("test"):
        for edit in [edit for kind in EDIT_KINDS for edit in edits_of(scene, kind)]:
            before = place(scene, rng)
            met = check_edit(edit, read(draw(before)), read(draw(apply(edit, before, rng))))
            assert tuple(met) == EDIT_CRITERIA
            wrong += not all(met.values())
            total += 1
    assert total == 240 * 2 * (3 + 1 + 2 + 2)
    assert wrong / total < 0.002  # a circle of a few pixels can look like a square


@pytest.mark.parametrize("instruction", [
    "make the red circle green", "move the red circle to the top right", "turn the red circle into a triangle",
])  # fmt: skip
def test_the_untouched_source_keeps_everything_and_fails_the_edit(instruction):
    assert failed(met_by(instruction, done=False)) == {"edit"}


def test_what_was_to_be_removed_and_is_still_there_is_counted():
    assert failed(met_by("remove the red circle", done=False)) == {"edit", "count"}


@pytest.mark.parametrize("instruction", [
    "make the red circle green", "remove the red circle", "move the red circle to the top right",
    "turn the red circle into a triangle",
])  # fmt: skip
@pytest.mark.parametrize(("attribute", "value", "criteria"), [
    ("color", "purple", {"preserved_color", "preserved_shape", "preserved_position"}),  # not found by its color
    ("shape", "triangle", {"preserved_shape"}),
    ("corner", "bottom left", {"preserved_position"}),
])  # fmt: skip
def test_the_other_object_has_to_stay_as_it_is(instruction, attribute, value, criteria):
    def change(objects, rng):
        *rest, other = objects
        if attribute == "corner":
            return [*rest, move_to(value, other, rng)]
        return [*rest, dataclasses.replace(other, **{attribute: value})]

    assert failed(met_by(instruction, change)) == criteria


@pytest.mark.parametrize(("instruction", "attribute", "value", "criterion"), [
    ("make the red circle green", "shape", "square", "preserved_shape"),
    ("make the red circle green", "corner", "top right", "preserved_position"),
    ("move the red circle to the top right", "shape", "square", "preserved_shape"),
    ("move the red circle to the top right", "color", "green", "preserved_color"),
    ("turn the red circle into a square", "corner", "bottom left", "preserved_position"),
    ("turn the red circle into a square", "color", "green", "preserved_color"),
])  # fmt: skip
def test_the_edited_object_keeps_what_the_instruction_does_not_name(instruction, attribute, value, criterion):
    def change(objects, rng):
        edited, other = objects
        if attribute == "corner":
            return [move_to(value, edited, rng), other]
        return [dataclasses.replace(edited, **{attribute: value}), other]

    assert criterion in failed(met_by(instruction, change))


def test_the_same_edit_of_the_other_object_fails():
    def other_one(objects, rng):
        return [objects[0], dataclasses.replace(objects[1], color="green")]

    assert "edit" in failed(met_by("make the red circle green", other_one, done=False))


def test_something_stray_is_counted():
    def stray(objects, rng):
        return [*objects, move_to("bottom left", dataclasses.replace(objects[0], color="yellow"), rng)]

    assert failed(met_by("make the red circle green", stray)) == {"count"}


def test_an_empty_picture_meets_no_edit_but_removal():
    source = read(draw(place(SCENE, np.random.default_rng(0))))
    assert not any(check_edit(Edit.parse("make the red circle green"), source, []).values())
    assert failed(check_edit(Edit.parse("remove the red circle"), source, [])) == set(EDIT_CRITERIA) - {"edit"}


def test_instructions_are_found_in_text_and_nonsense_is_refused():
    for kind in EDIT_KINDS:
        for edit in edits_of(SCENE, kind):
            assert Edit.parse(f"Instruction: {edit}.".upper()) == edit
    with pytest.raises(ValueError, match="is not a TinyScenes instruction; write one like"):
        Edit.parse("make it nicer")


def test_splits_share_no_scene_and_have_all_kinds():
    train, test = scenes("train"), scenes("test")
    assert (len(train), len(test)) == (840, 240)
    assert not {*train} & {*test}
    assert {corner for scene in test for _, _, corner in scene} == set(CORNERS)
    for split in ("train", "test"):
        kinds = [edit.kind for edit, _ in edits(split)]
        assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(EDIT_KINDS, len(kinds) // 4)
    with pytest.raises(ValueError, match="'train' and 'test', not 'dev'"):
        scenes("dev")


def test_rows_hold_the_source_and_the_instruction_fits_it():
    rows = edit_prompts("test[:40]")
    assert rows.column_names == ["prompt", "source_image"]
    assert len(rows) == 40
    for row in rows:
        edit = Edit.parse(row["prompt"])
        assert (edit.color, edit.shape) in {(seen.color, seen.shape) for seen in read(row["source_image"])}
    assert edit_prompts("test")[3]["source_image"] == rows[3]["source_image"]


def test_success_takes_what_a_reward_function_gets():
    rows = edit_prompts("test[:4]")
    met = edit_success(rows["prompt"], rows["source_image"], source_image=rows["source_image"], num_generations=2)
    assert [m["edit"] for m in met] == [False] * 4
    assert all(m["preserved_position"] for m in met)
