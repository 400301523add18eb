import json

import pytest

from arr_trl.judges.parsing import ReplyError, json_schema
from arr_trl.judges.ranks import RanksMode, ranks_reply
from arr_trl.judges.store import StoredAnswer
from arr_trl.rubrics import Criterion, Rubric


RUBRIC = Rubric(name="r", criteria=[Criterion(text="a", weight=3), Criterion(text="b", essential=True)])


def answer(ranks, criteria=None, text=None):
    criteria = criteria or [ranks, ranks]
    reply = {
        "criteria": [{"criterion": i, "ranks": r} for i, r in enumerate(criteria, start=1)],
        "reason": "because",
        "ranks": ranks,
    }
    return StoredAnswer("k", "answered", "m", "t", "r", "p", (), (), reply=text or json.dumps(reply))


def verdict(*answers_and_positions, decide="ranks"):
    mode = RanksMode(decide)
    return mode.verdict([mode.read(a, positions, RUBRIC) for a, positions in answers_and_positions], RUBRIC)


def test_ranks_are_of_candidates_not_of_positions():
    result = verdict((answer([1, 2]), (1, 0)))
    assert result.winner == 1
    assert result.ranks == (2.0, 1.0)
    assert result.first_position == (True,)
    assert result.consistent is None


def test_both_orders_agree():
    result = verdict((answer([1, 2]), (0, 1)), (answer([2, 1]), (1, 0)))
    assert result.winner == 0
    assert result.consistent is True
    assert result.first_position == (True, False)


def test_a_judge_that_always_prefers_the_first_image_gives_a_tie():
    result = verdict((answer([1, 2]), (0, 1)), (answer([1, 2]), (1, 0)))
    assert result.tie
    assert result.ranks == (1.5, 1.5)
    assert result.consistent is False
    assert result.first_position == (True, True)


def test_equal_ranks_are_a_tie():
    result = verdict((answer([1, 1]), (0, 1)), (answer([2, 2]), (1, 0)))
    assert result.tie
    assert result.consistent is True
    assert result.first_position == ()


def test_one_order_decisive_and_the_other_level_is_a_tie():
    result = verdict((answer([1, 2]), (0, 1)), (answer([1, 1]), (1, 0)))
    assert result.tie
    assert result.consistent is False


def test_of_three_only_what_both_orders_say_counts():
    # given order: 0 < 1 < 2; reversed order: 1 < 0 < 2
    result = verdict((answer([1, 2, 3]), (0, 1, 2)), (answer([3, 1, 2]), (2, 1, 0)))
    assert result.ranks == (1.5, 1.5, 3.0)
    assert result.winner is None
    assert result.consistent is False
    assert result.candidates == 3


def test_criteria_are_reported_one_by_one():
    result = verdict(
        (answer([1, 2], [[1, 2], [1, 2]]), (0, 1)),
        (answer([2, 1], [[2, 1], [1, 2]]), (1, 0)),
    )
    assert [(c.criterion, c.winner, c.consistent) for c in result.criteria] == [(1, 0, True), (2, None, False)]


def test_essential_criteria_decide_before_weights():
    criteria = [[1, 2], [2, 1]]  # the heavy criterion prefers the first, the essential one the second
    assert verdict((answer([1, 2], criteria), (0, 1)), decide="criteria").winner == 1
    assert verdict((answer([1, 2], criteria), (0, 1)), decide="ranks").winner == 0


def test_the_others_decide_where_essential_criteria_are_level():
    assert verdict((answer([2, 1], [[1, 2], [1, 1]]), (0, 1)), decide="criteria").winner == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not the JSON object"),
        ("Image 1 is better.", "not the JSON object"),
        ('{"criteria": [], "reason": "x", "ranks": [1, 2', "not the JSON object"),
        ("[1, 2]", "not the JSON object"),
        ("x" * 200_000, "200000 characters"),
        (json.dumps({"ranks": [1, 2]}), "`criteria`: Field required"),
    ],
)
def test_what_is_no_answer_is_an_error_that_says_why(text, words):
    with pytest.raises(ReplyError, match=words):
        RanksMode("ranks").read(answer([1, 2], text=text or " "), (0, 1), RUBRIC)


@pytest.mark.parametrize("ranks", [[1], [1, 2, 3], [0, 1], [1, 3], [1.5, 2], ["1", "2"], [True, 2], None])
def test_ranks_of_the_wrong_length_or_kind_are_refused(ranks):
    with pytest.raises(ReplyError, match="ranks"):
        RanksMode("ranks").read(answer(ranks, [[1, 2], [1, 2]]), (0, 1), RUBRIC)


def test_every_criterion_has_to_be_answered_once():
    reply = json.loads(answer([1, 2]).reply)
    reply["criteria"][1]["criterion"] = 1
    with pytest.raises(ReplyError, match="1 to 2 in order"):
        RanksMode("ranks").read(answer([1, 2], text=json.dumps(reply)), (0, 1), RUBRIC)


def test_a_fenced_reply_is_read():
    text = f"```json\n{answer([2, 1]).reply}\n```"
    assert RanksMode("ranks").read(answer([1, 2], text=text), (0, 1), RUBRIC).ranks == (2.0, 1.0)


def test_thoughts_before_the_reply_are_passed_over():
    text = f"<think>\nImage 1 has {{two}} cubes.\n</think>\n\n{answer([2, 1]).reply}"
    assert RanksMode("ranks").read(answer([1, 2], text=text), (0, 1), RUBRIC).ranks == (2.0, 1.0)


def test_findings_and_reason_stand_before_the_ranks_in_the_schema():
    assert list(json_schema(ranks_reply(2, 2))["properties"]) == ["criteria", "reason", "ranks"]
