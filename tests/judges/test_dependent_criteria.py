"""Criteria that depend on others: void where a picture fails the parent."""

import json

import pytest
from PIL import Image

from arr_trl.chat import ChatReply
from arr_trl.judges import JudgeRow, RubricJudge
from arr_trl.judges.criteria_dropout import part_of
from arr_trl.judges.dependent_criteria import ancestors, points_of_ranks, without_void_scores
from arr_trl.rubrics import Criterion, Rubric, parse_markdown, parse_rubric_text, to_markdown, to_rubric_text


SIGN = Rubric(
    name="sign",
    criteria=[
        Criterion(text="There is a sign."),
        Criterion(text="The sign says OPEN.", parent=1, weight=5.0),
        Criterion(text="OPEN is in red.", parent=2),
        Criterion(text="It is night."),
    ],
)
ROW = JudgeRow("a sign", (Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), "white")))


class Saying:
    """Answers with what it was made with, in the order in which it is asked."""

    model, settings = "saying", {}

    def __init__(self, *replies):
        self.replies = list(replies)
        self.asked = []

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        self.asked += requests
        return [ChatReply(text=json.dumps(self.replies[i % len(self.replies)])) for i in range(len(requests))]


def scores(*values):
    return {"criteria": [{"criterion": i, "score": s} for i, s in enumerate(values, 1)], "reason": "", "score": 5}


def ranks(*values):
    return {"criteria": [{"criterion": i, "ranks": r} for i, r in enumerate(values, 1)], "reason": "", "ranks": [1, 1]}


def test_what_a_picture_that_fails_the_parent_scored_on_the_child_does_not_count():
    # the first picture has no sign, and yet 10 of 10 for what it says
    model = Saying(scores(2, 10, 10, 10), scores(8, 3, 10, 0))
    (verdict,) = RubricJudge(SIGN, model, mode="pointwise", decide="criteria").compare([ROW])
    # .2 + 1 of 8 against .8 + 5 × .3; red letters on a sign that says nothing are void, too
    assert verdict.scores == pytest.approx((1.2 / 8, 2.3 / 8))
    assert [result.winner for result in verdict.criteria] == [1, 1, None, 0]


def test_a_score_in_the_middle_meets_and_what_is_void_voids_its_children():
    found = without_void_scores([(0.5, 0.4), (1.0, 1.0), (0.9, 0.9), (0.3, 0.3)], SIGN)
    assert found == [(0.5, 0.4), (1.0, 0.0), (0.9, 0.0), (0.3, 0.3)]
    assert ancestors(SIGN) == [[], [0], [1, 0], []]


def test_of_two_pictures_that_the_parent_tells_apart_the_child_says_nothing():
    # who has the sign is ahead by 1 of 8; what it says, weight 5, would have turned that round
    model = Saying(ranks([1, 2], [2, 1], [2, 1], [1, 1]))
    (verdict,) = RubricJudge(SIGN, model, order="fixed", decide="criteria").compare([ROW])
    assert verdict.winner == 0
    assert [result.winner for result in verdict.criteria] == [0, None, None, None]
    model = Saying(ranks([1, 1], [2, 1], [1, 2], [1, 1]))  # both have one: what it says decides
    (verdict,) = RubricJudge(SIGN, model, order="fixed", decide="criteria").compare([ROW])
    assert [result.winner for result in verdict.criteria] == [None, 1, None, None]


def test_of_three_the_child_still_compares_those_that_the_parent_does_not_tell_apart():
    points = points_of_ranks(((1, 1, 3), (2, 1, 1), (1, 1, 1), (1, 2, 3)), SIGN)
    assert points == [(1.5, 1.5, 0.0), (0.5, 1.5, 1.0), (1.0, 1.0, 1.0), (2.0, 1.0, 0.0)]


def test_the_judge_is_told_what_depends_on_what_and_others_read_what_they_read():
    rendered = SIGN.render()
    assert "2. The sign says OPEN. (weight 5, only if 1 is met)" in rendered
    assert "it is void" in rendered.splitlines()[-1]
    plain = Rubric(name="plain", criteria=[Criterion(text="There is a sign.")])
    assert plain.render() == "1. There is a sign."
    assert plain.content_hash == "062d531eebc75de6"  # that of before there were parents
    free = [criterion.model_copy(update={"parent": None}) for criterion in SIGN.criteria]
    assert SIGN.content_hash != Rubric(name="sign", criteria=free).content_hash


def test_every_form_of_a_rubric_keeps_parents(tmp_path):
    SIGN.save(tmp_path / "sign.json")
    assert Rubric.load(tmp_path / "sign.json") == SIGN
    assert parse_markdown(to_markdown(SIGN)) == SIGN
    assert parse_rubric_text(to_rubric_text(SIGN), name="sign") == SIGN
    # brackets of the text that look like it are none
    odd = Rubric(name="odd", criteria=[Criterion(text="A"), Criterion(text="B (only if 1 is met)")])
    assert parse_markdown(to_markdown(odd)) == odd
    assert '"parent"' not in odd.to_json()


@pytest.mark.parametrize("parent", [2, 3])
def test_a_parent_that_does_not_stand_before_its_child_is_refused(tmp_path, parent):
    path = tmp_path / "rubric.json"
    path.write_text(json.dumps({"name": "r", "criteria": [{"text": "a"}, {"text": "b", "parent": parent}]}))
    with pytest.raises(ValueError, match=f"criterion 2 depends on criterion {parent}, which has to stand before it"):
        Rubric.load(path)


def test_a_child_whose_parent_is_dropped_stands_for_itself_and_others_keep_theirs():
    part = part_of(SIGN, [2, 3, 4])
    assert [criterion.parent for criterion in part.criteria] == [None, 1, None]
    assert [criterion.parent for criterion in part_of(SIGN, [1, 3]).criteria] == [None, None]
