"""Verification never sees the label: what is sent is the same, to the byte, whatever the label is."""

import dataclasses
import json

import pytest
from openai_server import OpenAIServer

from arr_trl.autorubric import AutoRubric, AutoRubricConfig
from arr_trl.autorubric.holdout import judge_rows
from arr_trl.autorubric.verify import recovers, supporting, verify
from arr_trl.chat import HTTPChatModel
from arr_trl.judges import JudgeRow, RubricJudge, Verdict
from arr_trl.judges.verdict import CriterionResult
from arr_trl.tiny_scenes import TinyScenesJudge, preferences


PAIRS = preferences(6)
TURNED = [dataclasses.replace(pair, winner=1 - pair.winner, category="other", rationale="why") for pair in PAIRS]
CRITERIA = [["The colors are right.", "The shapes are right."]] * len(PAIRS)


def sent(pairs, criteria=CRITERIA):
    with OpenAIServer(TinyScenesJudge()) as server:
        judge = RubricJudge("auto", HTTPChatModel("m", base_url=server.url, max_concurrency=1))
        verify(judge, judge_rows(pairs), criteria)
    return [json.dumps(body) for body in server.requests]


def test_changing_every_label_changes_no_byte_of_the_verification():
    assert sent(PAIRS) == sent(TURNED)
    assert len(sent(PAIRS)) == 2 * len(PAIRS)


def test_what_a_judge_is_given_has_no_place_for_a_label():
    assert [field.name for field in dataclasses.fields(JudgeRow)] == [
        "prompt", "images", "source_image",
        "rewarded",  # whether it is of a rollout, which these never are
        "columns",  # those of a dataset that a preset reads, of which these have none
    ]  # fmt: skip
    assert not any(row.rewarded or row.columns for row in judge_rows(PAIRS))
    assert judge_rows(PAIRS)[0].images == PAIRS[0].images == judge_rows(TURNED)[0].images


def test_in_a_whole_run_the_same_criteria_are_verified_alike_under_either_label():
    class SameCriteria(TinyScenesJudge):
        """Writes the same criteria whichever image is preferred, and keeps what it asks the verifier."""

        def __init__(self):
            super().__init__()
            self.verified = []

        def complete(self, requests, on_reply=None):
            replies = []
            for request in requests:
                if "observations" in request.json_schema["properties"]:
                    text = json.dumps({"observations": "", "criteria": ["The colors are right."]})
                    replies.append(dataclasses.replace(super().complete([request])[0], text=text))
                else:
                    content = [
                        p["text"] if p["type"] == "text" else p["image"].tobytes()
                        for p in request.messages[0]["content"]
                    ]
                    self.verified.append(content)
                    replies += super().complete([request])
            return replies

    asked = []
    for pairs in (PAIRS, TURNED):
        model = SameCriteria()
        AutoRubric(model, RubricJudge("auto", model), AutoRubricConfig(max_rounds=0)).verified_criteria(pairs)
        asked.append(model.verified)
    assert asked[0] == asked[1]
    assert len(asked[0]) == 2 * len(PAIRS)


def test_a_tie_and_a_failure_do_not_pass():
    assert recovers(Verdict(winner=1, ranks=(2.0, 1.0)), 1)
    assert not recovers(Verdict(winner=0, ranks=(1.0, 2.0)), 1)
    assert not recovers(Verdict(winner=None, ranks=(1.5, 1.5)), 0)
    assert not recovers(Verdict(failure="no answer"), 0)


@pytest.mark.parametrize("bias", [1.0])
def test_a_judge_that_prefers_a_position_verifies_nothing(bias):
    judge = RubricJudge("auto", TinyScenesJudge(position_bias=bias))
    verdicts, _ = verify(judge, judge_rows(PAIRS), CRITERIA)
    assert not any(recovers(verdict, pair.winner) for verdict, pair in zip(verdicts, PAIRS, strict=True))


def test_criteria_that_speak_for_the_winner_are_kept():
    found = Verdict(
        winner=0, ranks=(1.0, 2.0), criteria=(CriterionResult(1, 0), CriterionResult(2, 1), CriterionResult(3, None))
    )
    assert supporting(["a", "b", "c"], found, 0) == ["a"]
    only_together = dataclasses.replace(found, criteria=(CriterionResult(1, None), CriterionResult(2, 1)))
    assert supporting(["a", "b"], only_together, 0) == ["a"]


def test_the_verifier_has_to_ask_in_both_orders_and_for_each_criterion():
    model = TinyScenesJudge()
    with pytest.raises(ValueError, match="both orders"):
        AutoRubric(model, RubricJudge("auto", model, order="fixed"))
    with pytest.raises(ValueError, match="no findings per criterion"):
        AutoRubric(model, RubricJudge("auto", model, mode="choice"))
