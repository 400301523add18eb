"""`check()` asks what the judge will ask, so that nothing is met for the first time in training."""

import json
import math

import pytest
from openai_server import Answer, OpenAIServer, checks_pass
from test_rubric_judge import RUBRIC, Brightness, gray

from arr_trl.chat import ChatFailure, ChatReply, HTTPChatModel
from arr_trl.judges import EnsembleJudge, JudgeRow, RubricJudge, TournamentJudge
from arr_trl.judges.rehearsal import flat_pictures


EDITING = RUBRIC.model_copy(update={"task": "image-editing"})


def asked(judge_settings, *counts):
    model = Brightness()
    RubricJudge(**{"rubric": RUBRIC, "model": model, **judge_settings}).check_for(*counts)
    (request,) = model.requests
    images = [part["image"] for part in request.messages[0]["content"] if part["type"] == "image"]
    assert len({image.getpixel((0, 0)) for image in images}) == len(images)
    return len(images), request


def test_as_many_pictures_are_shown_as_there_will_be():
    assert asked({}, 2)[0] == 2
    assert asked({}, 6)[0] == 6
    assert asked({"mode": "pointwise"}, 6)[0] == 1
    assert asked({"rubric": EDITING}, 2)[0] == 3
    assert asked({"rubric": EDITING}, 2, 4)[0] == 6
    assert asked({"rubric": "auto"}, 2)[0] == 2


def test_schema_and_choices_are_those_of_the_judge_and_one_token_is_enough():
    _, request = asked({"temperature": 0.5}, 2)
    assert (request.max_tokens, request.temperature) == (1, 0.5)
    assert request.json_schema["title"] == "Verdict"
    assert asked({"mode": "choice"}, 2)[1].choices == ("1", "2")


def test_nothing_of_it_is_kept(tmp_path):
    judge = RubricJudge(RUBRIC, Brightness(), store=tmp_path / "judge.sqlite")
    judge.check()
    assert len(judge.store) == 0


def test_a_choice_of_more_than_two_is_refused_before_it_is_asked():
    with pytest.raises(ValueError, match="compares pairs, not 4 images"):
        RubricJudge(RUBRIC, Brightness(), mode="choice").check_for(4)


def test_every_member_of_an_ensemble_is_asked():
    models = [Brightness(), Brightness()]
    EnsembleJudge([RubricJudge(RUBRIC, model) for model in models]).check_for(3)
    assert [len(model.requests) for model in models] == [1, 1]


def test_a_server_that_takes_one_picture_is_found_before_training():
    error = b'{"object": "error", "message": "At most 1 image(s) may be provided in one request.", "code": 400}'

    def respond(number, body):
        pictures = [part for part in body["messages"][0]["content"] if part["type"] == "image_url"]
        return Answer("OK") if len(pictures) < 2 else Answer(status=400, body=error)

    with OpenAIServer(respond=respond) as server, pytest.raises(ValueError) as caught:
        RubricJudge(RUBRIC, HTTPChatModel("judge", server.url)).check()
    assert "At most 1 image(s) may be provided" in str(caught.value)
    assert "about 2 pictures" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "error"),
    [("server", ConnectionError), ("authentication", PermissionError), ("bad_request", ValueError)],
)
def test_what_the_question_meets_is_raised_as_what_it_is(kind, error):
    model = Brightness(lambda number: ChatReply(failure=ChatFailure(kind, "It went wrong.")))
    with pytest.raises(error, match="It went wrong"):
        RubricJudge(RUBRIC, model).check()


@pytest.mark.parametrize("kind", ["truncated", "empty", "refusal"])
def test_a_model_that_has_nothing_to_say_of_plain_colors_is_there(kind):
    RubricJudge(RUBRIC, Brightness(lambda number: ChatReply(failure=ChatFailure(kind, "No.")))).check()


def test_a_schema_that_is_refused_is_found_out_once_and_before_training():
    def respond(number, body):
        return Answer(status=400, body=b"no response_format here") if "response_format" in body else Answer("OK")

    with OpenAIServer(respond=respond) as server:
        judge = RubricJudge(RUBRIC, HTTPChatModel("judge", server.url))
        judge.check()
        asked = len(server.requests)
        judge.compare([JudgeRow("a", (gray(1), gray(2)))])
    assert not any("response_format" in body for body in server.requests[asked:])


TOKENS = {
    "nothing listed": ([], "`top_logprobs` is empty"),
    "a thinking model": ([("<think>", 0.0), ("1", -25.0), ("2", -22.0)], "with a probability of 2.9e-10 only"),
    "other words": ([("Image", -0.1), ("The", -2.4)], "Neither 1 nor 2 is among"),
}


def first_token(listed):
    top = [{"token": token, "logprob": logprob} for token, logprob in listed]
    choice = {
        "message": {"content": ""},
        "logprobs": {"content": [{"token": "1", "logprob": -9.0, "top_logprobs": top}]},
    }
    if listed:
        choice["logprobs"]["content"][0]["token"] = listed[0][0]
    return Answer(body=json.dumps({"choices": [choice]}).encode())


@pytest.mark.parametrize("tokens", TOKENS)
def test_first_tokens_that_are_no_choice_are_found_by_the_check(tokens):
    listed, words = TOKENS[tokens]
    with (
        OpenAIServer(respond=lambda n, b: checks_pass(n, b) or first_token(listed)) as server,
        pytest.raises(ValueError, match="mode='choice' cannot be used: ") as caught,
    ):
        RubricJudge(RUBRIC, HTTPChatModel("judge", server.url), mode="choice").check()
    assert words in str(caught.value)


def test_a_model_that_would_rather_say_something_else_is_told():
    talkative = first_token([("The", -0.1), ("1", -2.4)])
    with (
        OpenAIServer(respond=lambda n, b: checks_pass(n, b) or talkative) as server,
        pytest.warns(UserWarning, match=r"is one of 1, 2 with a probability of 0\.091 only"),
    ):
        RubricJudge(RUBRIC, HTTPChatModel("judge", server.url), mode="choice").check()


def test_a_model_that_answers_with_the_marks_of_its_vocabulary_passes():
    with OpenAIServer(respond=lambda n, b: checks_pass(n, b) or first_token([("▁1", -0.1), ("▁2", -2.4)])) as server:
        RubricJudge(RUBRIC, HTTPChatModel("judge", server.url), mode="choice").check()


@pytest.mark.parametrize(("mass", "is_verdict"), [(0.011, True), (0.009, False), (3e-10, False)])
def test_a_verdict_of_a_choice_needs_a_least_probability(mass, is_verdict):
    model = Brightness()
    model.answer = lambda request: ChatReply(choice_logprobs={"1": math.log(mass)})
    judge = RubricJudge(RUBRIC, model, mode="choice", order="fixed")
    (verdict,) = judge.compare([JudgeRow("a", (gray(1), gray(2)))])
    assert (verdict.failure is None) is is_verdict
    assert verdict.winner == (0 if is_verdict else None)


ROW = JudgeRow("a gray square", flat_pictures(48, 40))


def test_one_real_question_is_asked_of_which_nothing_is_kept(tmp_path):
    model = Brightness()
    judge = RubricJudge(RUBRIC, model, store=tmp_path / "judge.sqlite", temperature=0.7)
    (said,) = judge.rehearse(ROW)
    (request,) = model.requests  # not in both orders
    assert request.max_tokens == 1024  # all of the reply, unlike `check`
    assert [p["image"].size for p in request.messages[0]["content"] if p["type"] == "image"] == [(40, 48)] * 2
    assert (said.failure, said.calls) == (None, 1)
    assert str(said).startswith(f"{model.model} answered (1 request, ")
    assert len(judge.store) == 0
    assert (judge.order, judge.last_failure) == ("both", None)


def test_reply_that_cannot_be_read_is_shown():
    for reply in (
        "Both pictures look flat to me.",
        "I see two pictures of one color each. " * 20 + "The second is better.",
    ):
        model = Brightness(lambda number, reply=reply: ChatReply(text=reply))
        (said,) = RubricJudge(RUBRIC, model).rehearse(ROW)
        assert said.calls == 2  # once more with what was wrong
        assert "gave no verdict" in str(said)
        assert str(said).count(reply[:500]) == 1  # the error may begin with it


def test_every_model_behind_a_judge_is_asked_as_it_will_be():
    models = [Brightness(), Brightness()]
    ensemble = EnsembleJudge([RubricJudge(RUBRIC, models[0]), RubricJudge(RUBRIC, models[1], mode="choice")])
    first, second = TournamentJudge(ensemble).rehearse(ROW)
    assert models[1].requests[0].choices == ("1", "2")
    assert first.failure is second.failure is None
