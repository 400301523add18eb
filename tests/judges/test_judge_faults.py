"""The judge over a real server on loopback that misbehaves: every class of fault, and what becomes of it."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from openai_server import Answer, OpenAIServer

from arr_trl.chat import HTTPChatModel
from arr_trl.judges import JudgeRow, RubricJudge
from arr_trl.tiny_scenes.judge import TinyScenesJudge, zero_shot_rubric
from arr_trl.tiny_scenes.scenes import Caption, captions, render


CAPTIONS = captions("train")


def rows(count=3):
    """A right and a wrong picture, of another caption in every row."""

    def draw(i):
        return render(Caption.parse(CAPTIONS[i]), np.random.default_rng(i))

    return [JudgeRow(CAPTIONS[i], (draw(i), draw(i + 100))) for i in range(count)]


def is_first_row(body):
    return CAPTIONS[0] in body["messages"][0]["content"][0]["text"]


def judge_at(server, timeout_s=120, **settings):
    model = HTTPChatModel("judge", server.url, backoff_s=0.01, timeout_s=timeout_s, max_retries=1, max_concurrency=1)
    return RubricJudge(rubric=zero_shot_rubric(), model=model, **{"order": "fixed", **settings})


def ranks(value):
    criteria = [{"criterion": i, "ranks": [1, 2]} for i in range(1, 5)]
    return Answer(json.dumps({"criteria": criteria, "reason": "", "ranks": value}))


# what the server sends for the first row, and how many requests that row then takes
LASTING = {
    "wrong JSON": (Answer('{"winner": 1}'), 2),
    "truncated": (Answer('{"criteria": [{"crit', finish_reason="length"), 2),
    "empty": (Answer(""), 2),
    "refusal text": (Answer("I'm sorry, I can't compare these images."), 2),
    "2 MB reply": (Answer("no " * 700_000), 2),
    "ranks of the wrong length": (ranks([1, 2, 3]), 2),
    "429 with Retry-After": (Answer(status=429, headers={"Retry-After": "0"}, body=b"{}"), 2),
    "500": (Answer(status=500, body=b"oops"), 2),
    "hang": (Answer(hang_s=60), 2),
    "reset connection": (Answer(reset=True), 2),
    "wrong model name": (Answer(status=404, body=b'{"error": {"message": "no model judge"}}'), 1),
    "401": (Answer(status=401, body=b"{}"), 1),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault_masks_its_row_and_leaves_the_others(fault):
    answer, requests = LASTING[fault]
    with OpenAIServer(TinyScenesJudge(), lambda number, body: answer if is_first_row(body) else None) as server:
        # where one row hangs, a busy machine has to answer the others in that time
        verdicts = judge_at(server, timeout_s=2 if answer.hang_s else 120).compare(rows())
    assert [verdict.winner for verdict in verdicts] == [None, 0, 0]
    assert [verdict.failure is not None for verdict in verdicts] == [True, False, False]
    assert len(verdicts[0].failure) < 500
    assert len(server.requests) == requests + 2


def test_ties_are_verdicts_not_failures():
    with OpenAIServer(respond=lambda n, b: ranks([1, 1])) as server:
        verdicts = judge_at(server).compare(rows())
    assert all(verdict.tie for verdict in verdicts)
    assert len(server.requests) == 3


def test_a_passing_fault_costs_nothing_but_time():
    faults = {0: Answer(status=500, body=b""), 3: Answer(reset=True), 5: Answer(status=429, body=b"")}
    with OpenAIServer(TinyScenesJudge(), lambda number, body: faults.get(number)) as server:
        verdicts = judge_at(server).compare(rows(6))
    assert [verdict.winner for verdict in verdicts] == [0] * 6
    assert len(server.requests) == 9


def test_no_answer_is_asked_for_twice_even_of_a_bad_server(tmp_path):
    def respond(number, body):
        return Answer("nonsense") if number % 3 == 0 else None

    with OpenAIServer(TinyScenesJudge(), respond) as server:
        settings = {"order": "both", "store": tmp_path / "judge.sqlite"}
        first = judge_at(server, **settings).compare(rows(12))
        asked = [json.dumps(body["messages"]) for body in server.requests]
        with pytest.warns(UserWarning, match="had no usable answer in an earlier run"):
            again = judge_at(server, **settings).compare(rows(12))
    assert len(set(asked)) == len(asked)
    failed = [CAPTIONS[i] for i, verdict in enumerate(first) if verdict.failure is not None]
    asked_again = [json.dumps(body["messages"]) for body in server.requests[len(asked) :]]
    assert asked_again
    assert all(any(caption in question for caption in failed) for question in asked_again)
    assert [after for before, after in zip(first, again, strict=True) if before.failure is None] == [
        verdict for verdict in first if verdict.failure is None
    ]


class Killed(Exception):
    pass


def test_killed_between_a_bad_reply_and_its_repair_only_the_repair_is_asked(tmp_path):
    class Dies(TinyScenesJudge):
        def complete(self, requests, on_reply=None):
            if len(requests[0].messages) > 1:  # a repair
                raise Killed
            return super().complete(requests, on_reply)

    settings = {"rubric": zero_shot_rubric(), "order": "fixed", "store": tmp_path / "judge.sqlite"}
    with pytest.raises(Killed):
        RubricJudge(model=Dies(failure_rate=1.0), **settings).compare(rows(1))
    asked = []

    class Repairs(TinyScenesJudge):
        def complete(self, requests, on_reply=None):
            asked.extend(requests)
            return TinyScenesJudge().complete(requests, on_reply)

    for _ in range(2):
        (verdict,) = RubricJudge(model=Repairs(failure_rate=1.0), **settings).compare(rows(1))
        assert verdict.failure is None
    assert [len(request.messages) for request in asked] == [3]


RUN = """
import sys
sys.path.insert(0, sys.argv[3])
from test_judge_faults import rows
from arr_trl.chat import HTTPChatModel
from arr_trl.judges import RubricJudge
from arr_trl.tiny_scenes.judge import zero_shot_rubric
model = HTTPChatModel("judge", sys.argv[1], max_concurrency=2)
RubricJudge(rubric=zero_shot_rubric(), model=model, store=sys.argv[2]).compare(rows(40))
"""


def test_a_killed_run_asks_nothing_again_that_was_answered(tmp_path):
    store = tmp_path / "judge.sqlite"
    with OpenAIServer(TinyScenesJudge(), latency_s=0.1) as server:
        paths = [str(store), str(Path(__file__).parent), str(Path(__file__).parents[1])]
        command = [sys.executable, "-c", RUN, server.url, *paths]
        with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths[2]}) as run:
            while len(server.requests) < 20:
                assert run.poll() is None
                time.sleep(0.01)
            run.kill()
        before = [json.dumps(body["messages"]) for body in server.requests]
        judge = RubricJudge(rubric=zero_shot_rubric(), model=HTTPChatModel("judge", server.url), store=store)
        verdicts = judge.compare(rows(40))
    assert all(verdict.failure is None for verdict in verdicts)
    asked = [json.dumps(body["messages"]) for body in server.requests]
    twice = {question for question in asked if asked.count(question) == 2}
    # two were in flight, and what came in the last moment was not yet written
    assert twice <= set(before[-6:])
    assert len(set(asked)) == 80


def test_questions_are_asked_side_by_side():
    together = threading.Barrier(16)  # nobody is answered before 16 have asked
    with OpenAIServer(TinyScenesJudge(), lambda number, body: together.wait(timeout=120) and None) as server:
        judge = RubricJudge(rubric=zero_shot_rubric(), model=HTTPChatModel("judge", server.url, max_concurrency=16))
        verdicts = judge.compare(rows(16))
    assert all(verdict.failure is None for verdict in verdicts)
    assert server.most_in_flight == 16


def test_secrets_are_in_no_store_and_no_verdict(tmp_path):
    secret = "sk-very-secret"
    body = json.dumps({"error": {"message": f"wrong key {secret}"}}).encode()
    path = tmp_path / "judge.sqlite"
    with OpenAIServer(respond=lambda n, b: Answer(status=401, body=body)) as server:
        url = f"{server.url}?token=in-the-url"
        judge = RubricJudge(zero_shot_rubric(), "judge", base_url=url, api_key=secret, store=path)
        (verdict,) = judge.compare(rows(1))
    judge.store.close()
    dump = "\n".join(sqlite3.connect(path).iterdump()) + repr(verdict)
    assert "refused the credentials" in dump
    assert not re.search(f"{secret}|in-the-url", dump)
