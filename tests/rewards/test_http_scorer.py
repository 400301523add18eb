"""Scores from a server that is slow, resets, sends NaN or the wrong number: masked, counted, stopped at the set rate."""

import contextlib
import importlib.util
import json
import socket
import threading
import time
from pathlib import Path

import pytest
from openai_server import Answer, OpenAIServer
from PIL import Image

from arr_trl.rewards import HTTPScorer, RewardError, RewardFailureError
from arr_trl.rewards.http_scorer import _body


SERVER = Path(__file__).parents[2] / "examples" / "servers" / "scorer_server.py"
PICTURES = [Image.new("RGB", (8, 8), (grey, grey, grey)) for grey in (10, 20, 30)]
PROMPTS = ["a", "b", "c"]


def scores(*values, **changes):
    return Answer(body=json.dumps({"scores": values}).encode(), **changes)


def ask(answers, log_extra=None, pictures=PICTURES, **settings):
    """What a scorer makes of a server that gives these answers in turn, the last of them for ever."""
    with OpenAIServer(respond=lambda number, body: answers[min(number, len(answers) - 1)]) as server:
        settings = {"timeout_s": 5, "max_retries": 1, "backoff_s": 0.001, "max_failure_rate": None} | settings
        scorer = HTTPScorer(server.url, **settings)
        found = scorer(PROMPTS[: len(pictures)], pictures, log_extra=log_extra)
        return found, server.requests


@pytest.mark.parametrize(
    ("answer", "reason", "requests"),
    [
        (scores(1, 2), "sent 2 scores for 3 pictures.", 1),
        (scores(1, 2, 3, 4), "sent 4 scores for 3 pictures.", 1),
        (Answer(body=b'{"scores": 3}'), "sent something else than a list of scores for 3 pictures.", 1),
        (Answer(body=b"[1, 2, 3]"), "sent something else than scores: [1, 2, 3].", 1),
        (Answer(body=b"<html>no</html>"), "sent something else than scores: <html>no</html>.", 1),
        (Answer(body=b""), "sent something else than scores: .", 1),
        (scores(1, 2, 3, status=400), "answered with status 400", 1),
        (scores(1, 2, 3, status=503), "answered with status 503", 2),
        (scores(1, 2, 3, hang_s=0.4), "did not answer within 0.1 s.", 2),
        (Answer(reset=True), "could not be reached (ConnectionError).", 2),
    ],
)
def test_a_reply_that_is_no_list_of_scores_gives_no_picture_a_number(answer, reason, requests):
    extra = {}
    timeout_s = 0.1 if answer.hang_s else 5
    found, asked = ask([answer], extra.__setitem__, timeout_s=timeout_s)
    assert found == [None, None, None]
    assert all(reason in problem for problem in extra["http_scorer_problem"])
    assert len(asked) == requests


def test_a_picture_without_a_number_is_missing_and_the_others_are_not():
    extra = {}
    found, _ = ask([Answer(body=b'{"scores": [1.5, NaN, null]}')], extra.__setitem__)
    assert found == [1.5, None, None]
    first, second, third = extra["http_scorer_problem"]
    assert first == ""
    assert "sent nan as a score" in second
    assert "has no score for this picture" in third
    found, _ = ask([Answer(body=b'{"scores": [true, "3", -2]}')])
    assert found == [None, None, -2.0]
    found, _ = ask([Answer(body=b'{"scores": [1e999, -1e999, 0]}')])
    assert found == [None, None, 0.0]


def test_a_server_that_trickles_is_not_waited_for():
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle():
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        with contextlib.suppress(OSError):  # the client has gone
            for _ in range(100):
                connection.sendall(b" ")
                time.sleep(0.05)
        connection.close()

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/score"
    extra = {}
    scorer = HTTPScorer(url, timeout_s=0.2, max_retries=0, max_failure_rate=None)
    assert scorer(["a"], PICTURES[:1], log_extra=extra.__setitem__) == [None]
    assert "did not answer within 0.2 s" in extra["http_scorer_problem"][0]
    thread.join(timeout=4)
    assert not thread.is_alive()  # long before all of it was sent
    listener.close()


def test_what_passes_is_tried_again():
    found, asked = ask([Answer(reset=True), scores(1, 2, 3)])
    assert found == [1.0, 2.0, 3.0]
    assert len(asked) == 2


def test_batches_keep_the_order_of_their_pictures():
    with OpenAIServer(respond=lambda number, body: scores(*[len(p) for p in body["prompts"]])) as server:
        scorer = HTTPScorer(server.url, batch_size=2)
        assert scorer(["a", "bb", "ccc", "dddd", "eeeee"], [PICTURES[0]] * 5) == [1.0, 2.0, 3.0, 4.0, 5.0]
        assert sorted(len(request["images"]) for request in server.requests) == [1, 2, 2]


def test_the_run_stops_with_the_reason_when_too_many_pictures_have_no_score():
    with OpenAIServer(respond=lambda number, body: scores(1, None, None, None)) as server:
        scorer = HTTPScorer(server.url, name="hps", max_failure_rate=0.5, failure_window=8)
        assert scorer("abcd", [PICTURES[0]] * 4) == [1.0, None, None, None]  # 3 of a window of 8
        with pytest.raises(RewardFailureError) as stopped:
            scorer("abcd", [PICTURES[0]] * 4)
    assert str(stopped.value) == (
        "6 of the last 8 pictures got no score of hps, more than max_failure_rate=0.5 of a window of 8 allows. The last "
        f"failure was: The scorer at {server.url} has no score for this picture. Repair the server and resume."
    )
    assert isinstance(stopped.value, RewardError)  # which commands end with, in one sentence


def test_a_secret_that_the_server_repeats_is_not_shown():
    extra = {}
    ask([Answer(body=b"no sk-secret", status=400)], extra.__setitem__, api_key="sk-secret")
    assert "sk-secret" not in extra["http_scorer_problem"][0]


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (Answer(body=b"", status=401), PermissionError, "status 401"),
        (Answer(body=b"", status=404), ValueError, "status 404"),
        (Answer(body=b"", status=500), ConnectionError, "status 500"),
        (scores(1, 2), ValueError, "2 scores for 0 pictures"),
    ],
)
def test_check_finds_a_server_that_is_none_before_training(answer, error, said):
    with OpenAIServer(respond=lambda number, body: answer) as server, pytest.raises(error, match=said):
        HTTPScorer(server.url).check()


def test_check_finds_a_server_that_is_not_there():
    with OpenAIServer() as server:
        url = server.url
    with pytest.raises(ConnectionError, match="could not be reached"):
        HTTPScorer(url).check()


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("scorer_server", SERVER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_masks_go_beside_sources_and_only_where_there_are_some():
    given = {"source_image": PICTURES, "mask_image": [Image.new("L", (8, 8), 255), None, None]}
    body = _body(PROMPTS, PICTURES, given, None)
    assert [mask is not None for mask in body["masks"]] == [True, False, False]
    assert body["metadata"] == [{}] * 3
    assert "masks" not in _body(PROMPTS, PICTURES, {"source_image": PICTURES}, None)
    # a path is a value as any other
    assert _body(PROMPTS, PICTURES, {"mask_image": ["m.png"] * 3}, None)["metadata"] == [{"mask_image": "m.png"}] * 3


def test_the_server_of_the_examples_shows_a_function_what_it_scores(example):
    assert len(SERVER.read_text().splitlines()) <= 60
    seen = []

    def score(images, prompts, sources, metadata):
        seen.append((prompts, [len(some) for some in sources], metadata))
        if metadata[0].get("broken"):
            raise RuntimeError("out of memory")
        return [None if p == "b" else image.getpixel((0, 0))[0] for p, image in zip(prompts, images, strict=True)]

    server = example.make_server(score)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        scorer = HTTPScorer(f"http://127.0.0.1:{server.server_port}/score", max_retries=0, max_failure_rate=None)
        scorer.check()
        sources = [PICTURES[0], [PICTURES[0], PICTURES[1]], None]
        columns = {"tag": ["x", "y", "z"], "picture": PICTURES, "num_generations": 3, "trainer_state": object()}
        assert scorer(PROMPTS, PICTURES, source_image=sources, **columns) == [10.0, None, 30.0]
        assert seen[-1] == (PROMPTS, [1, 2, 0], [{"tag": "x"}, {"tag": "y"}, {"tag": "z"}])
        extra = {}
        assert scorer(["a"], PICTURES[:1], log_extra=extra.__setitem__, broken=[True]) == [None]
        assert "RuntimeError: out of memory" in extra["http_scorer_problem"][0]
    finally:
        server.shutdown()
        server.server_close()
