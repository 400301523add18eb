"""A server that sleeps between rollouts: woken before it is asked, and put to sleep when the last has done."""

import threading

import pytest
from openai_server import Answer, OpenAIServer
from PIL import Image

from arr_trl.chat import HTTPChatModel
from arr_trl.judges import EnsembleJudge, JudgeRow, RubricJudge, TournamentJudge
from arr_trl.rubrics import Criterion, Rubric


RUBRIC = Rubric(name="one", criteria=[Criterion(text="It is there.")])
ROWS = [JudgeRow("a", (Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "white")))]


def answers(number, body):
    return Answer("OK", body=b"" if not body else None, top_logprobs=[("1", -0.2), ("2", -1.8)] if body else None)


@pytest.fixture
def server():
    with OpenAIServer(respond=answers) as server:
        yield server


def judge_at(server, model="m", **settings):
    return RubricJudge(RUBRIC, HTTPChatModel(model, base_url=server.url, sleep=True), mode="choice", **settings)


def test_it_is_woken_asked_and_put_to_sleep(server):
    judge_at(server).compare(ROWS)
    assert server.paths == ["/wake_up", "/v1/chat/completions", "/v1/chat/completions", "/sleep?level=1"]


def test_whoever_comes_second_finds_it_awake_and_the_last_puts_it_to_sleep(server):
    model = HTTPChatModel("m", base_url=server.url, sleep=True)
    second = model.awake()
    with model.awake():
        thread = threading.Thread(target=second.__enter__)
        thread.start()
        thread.join()
    assert server.paths == ["/wake_up"]  # the second one is not done
    second.__exit__(None, None, None)
    assert server.paths == ["/wake_up", "/sleep?level=1"]


def test_it_sleeps_again_after_an_error(server):
    model = HTTPChatModel("m", base_url=server.url, sleep=True)
    with pytest.raises(KeyError), model.awake():
        raise KeyError
    assert server.paths == ["/wake_up", "/sleep?level=1"]


@pytest.mark.parametrize("wrap", [lambda j: EnsembleJudge([j, j]), TournamentJudge], ids=["ensemble", "tournament"])
def test_a_judge_of_judges_wakes_them(server, wrap):
    judge = wrap(judge_at(server))
    assert judge.sleeps
    judge.submit(ROWS).result()
    assert (server.paths[0], server.paths[-1]) == ("/wake_up", "/sleep?level=1")
    assert server.paths.count("/wake_up") == 1


def test_a_server_without_sleep_mode_is_told_before_training():
    with OpenAIServer(respond=lambda number, body: Answer(status=404, body=b"")) as server:
        with pytest.raises(ConnectionError, match=r"could not be woken \(status 404\); vLLM takes this when it was"):
            judge_at(server).check()
        assert server.paths == ["/wake_up"]
    with pytest.raises(ConnectionError, match="could not be woken"):
        judge_at(server).check()
    with pytest.raises(ValueError, match="give its `base_url`"):
        HTTPChatModel("m", sleep=True)
