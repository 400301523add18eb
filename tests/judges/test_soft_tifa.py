import json
import math
from pathlib import Path

import pytest
from PIL import Image

from arr_trl.chat import ChatFailure, ChatReply
from arr_trl.judges.soft_tifa import SoftTIFA, soft_tifa_scores


VECTORS = json.loads((Path(__file__).parents[1] / "evaluation" / "judges_vectors.json").read_text())
DOGS, GREEN, THERE = "How many dogs are in the image?", "Are the dogs green?", "Are there any dogs in the image?"
PICTURE = Image.new("RGB", (8, 8), "green")


class ToldModel:
    """A chat model with the probabilities that a test wrote down, by question and spelling."""

    model, settings = "told", {}

    def __init__(self, told):
        self.told, self.asked = told, []

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        self.asked += requests
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        text = request.messages[0]["content"][-1]["text"]
        said = next((said for question, said in self.told.items() if question in text), None)
        if said is None:
            return ChatReply(failure=ChatFailure("server", "It is gone."))
        return ChatReply(choice_logprobs={k: math.log(p) for k, p in said.items() if k in request.choices})


def test_atoms_add_up_to_both_means():
    case = VECTORS["soft_tifa"]
    found = soft_tifa_scores(case["atom_probabilities"])
    assert found == {"am": pytest.approx(case["arithmetic_mean"]), "gm": pytest.approx(case["geometric_mean"])}


@pytest.mark.parametrize("missing", [[], [0.5, None], [None]])
def test_a_missing_atom_leaves_no_score(missing):
    assert soft_tifa_scores(missing) == {"am": None, "gm": None}
    assert soft_tifa_scores([0.5, 0.0]) == {"am": 0.25, "gm": 0.0}


def test_reward_is_the_absolute_mass_of_the_expected_answer():
    case = VECTORS["soft_tifa"]
    first, second, third = case["atom_probabilities"]
    told = {
        DOGS: {"two": first - 0.1, "Two": 0.06, "2": 0.04, "three": 0.05},
        GREEN: {"Yes": second, "No": 0.1},  # not divided by .9
        THERE: {"yes": third},
    }
    questions = [[DOGS, "two"], [GREEN, "Yes"], [THERE, "Yes"]]
    for combine, name in (("am", "arithmetic_mean"), ("gm", "geometric_mean")):
        scorer = SoftTIFA(ToldModel(told), combine=combine)
        assert scorer(["two green dogs"], [PICTURE], vqa_list=[questions]) == [pytest.approx(case[name])]
        assert scorer.__name__ == f"soft_tifa_{combine}"


def test_what_is_asked_is_a_picture_and_one_word():
    model = ToldModel({DOGS: {"two": 0.5}})
    SoftTIFA(model)(["p"], [PICTURE], vqa_list=[[[DOGS, "two"]]])
    (request,) = model.asked
    assert [part["type"] for part in request.messages[0]["content"]] == ["image", "text"]
    assert request.messages[0]["content"][1]["text"] == f"{DOGS} Answer in one word."
    assert {"two", "Two", "2", "seven", "7"} <= set(request.choices)
    assert "10" not in request.choices  # its first token is that of 1


def test_another_answer_is_a_probability_of_nothing_and_no_answer_is_none():
    scorer = SoftTIFA(ToldModel({DOGS: {"three": 0.9}, GREEN: {}}), combine="am")
    assert scorer(["p"], [PICTURE], vqa_list=[[[DOGS, "two"]]]) == [0.0]
    assert scorer(["p"], [PICTURE], vqa_list=[[[DOGS, "two"], [GREEN, "Yes"]]]) == [None]
    assert scorer(["p"], [PICTURE], vqa_list=[[[THERE, "Yes"]]]) == [None]  # the server failed


def test_an_answer_is_asked_for_once(tmp_path):
    model = ToldModel({DOGS: {"two": 0.5}})
    for _ in range(2):
        scorer = SoftTIFA(model, store=tmp_path / "judge.sqlite")
        assert scorer(["p"] * 2, [PICTURE] * 2, vqa_list=[[[DOGS, "two"]]] * 2) == [0.5] * 2
    assert len(model.asked) == 1


def test_another_expected_answer_is_another_question():
    scorer = SoftTIFA(ToldModel({GREEN: {"Yes": 0.75, "No": 0.25}}), combine="am")
    assert scorer(["p"] * 2, [PICTURE] * 2, vqa_list=[[[GREEN, "Yes"]], [[GREEN, "No"]]]) == [0.75, 0.25]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"red": {}, "How many": {"1": 0.9}}, "None of the answers"),
        ({"red": {"Yes": 0.9}, "How many": {}}, "None of the answers"),
        ({}, "It is gone"),
    ],
)
def test_a_model_that_cannot_be_asked_is_found_at_once(told, words):
    with pytest.raises(ValueError, match=words):
        SoftTIFA(ToldModel(told)).check()
    SoftTIFA(ToldModel({"red": {"Yes": 0.9}, "How many": {"1": 0.9}})).check()


def test_bad_arguments_are_told():
    with pytest.raises(ValueError, match="neither 'am' nor 'gm'"):
        SoftTIFA(ToldModel({}), combine="mean")
    with pytest.raises(ValueError, match="one word"):
        SoftTIFA(ToldModel({}))(["p"], [PICTURE], vqa_list=[[["What color?", "light blue"]]])
