"""Killed at any moment and run again: the rubric of the run that nobody disturbed, and nothing asked twice."""

import json
import os
import random
import signal
import time
from collections import Counter

import pytest
from forked_run import ForkedRun
from openai_server import OpenAIServer
from tiny_pairs import write_pairs

from arr_trl.cli.main import main
from arr_trl.tiny_scenes import TinyScenesJudge


RULE = {"count": 4.0, "relation": 1.0, "shapes": 1.0}  # leaves criteria to refine


def generate(folder, url, concurrency):
    os.chdir(folder)
    raise SystemExit(
        main([
            "rubric", "generate", "--dataset", "../pairs.jsonl", "--judge_model", "m", "--base_url", url,
            "--max_concurrency", str(concurrency), "--name", "r",
        ])
    )  # fmt: skip


class Server(OpenAIServer):
    """Remembers what it was asked for the rubric, without the one token of each check."""

    @property
    def asked(self) -> Counter:
        return Counter(json.dumps(body["messages"]) for body in self.requests if body["max_tokens"] > 1)


def start(folder, server, concurrency=1):
    folder.mkdir(exist_ok=True)
    return ForkedRun(generate, folder, server.url, concurrency, log=folder / "log")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The undisturbed run: its folder and rubric, what was asked for it, and the server, which is part of each answer."""
    folder = tmp_path_factory.mktemp("runs")
    write_pairs(folder, 24, RULE, wrong_labels=0.1)
    with Server(TinyScenesJudge()) as server:
        assert start(folder / "whole", server).wait() == [0]
        rounds = [pair["rounds"] for pair in json.loads((folder / "whole/rubric.report.json").read_text())["pairs"]]
        assert any(rounds)  # else refinement would not be among the moments
        yield folder, (folder / "whole" / "rubric.json").read_bytes(), server.asked, server


def test_undisturbed_run_asks_nothing_twice(whole):
    assert set(whole[2].values()) == {1}


def test_killed_before_any_answer_it_asks_again_only_what_had_none(whole, tmp_path):
    folder, rubric, asked, _ = whole
    moments = sorted(random.Random(0).sample(range(1, sum(asked.values())), 6))
    run = None

    def respond(number, body):
        # while the request is in flight, and one at a time
        if moments and sum(server.asked.values()) > moments[0]:
            moments.pop(0)
            unanswered[json.dumps(body["messages"])] += 1
            os.kill(run.processes[0].pid, signal.SIGKILL)

    unanswered = Counter()
    (folder / "killed").mkdir()
    with Server(TinyScenesJudge(), respond) as server:
        while True:
            run = start(folder / "killed", server)
            if run.wait() == [0]:
                break
    assert not moments
    assert (folder / "killed" / "rubric.json").read_bytes() == rubric
    assert server.asked == asked + unanswered


def test_killed_at_random_moments_it_repeats_no_more_than_was_in_flight(whole):
    folder, rubric, asked, _ = whole
    draws = random.Random()
    kills = 0
    with Server(TinyScenesJudge(), latency_s=0.02) as server:
        while kills < 5:
            run = start(folder / "random", server, concurrency=4)
            time.sleep(draws.uniform(0.1, 1.0))
            if not run.alive():
                break
            run.kill()
            kills += 1
        assert start(folder / "random", server, concurrency=4).wait() == [0]
    assert (folder / "random" / "rubric.json").read_bytes() == rubric
    assert server.asked.keys() == asked.keys()
    assert sum((server.asked - asked).values()) <= 4 * kills


def test_finished_run_is_repeated_without_a_request(whole):
    folder, rubric, asked, server = whole
    assert start(folder / "whole", server).wait() == [0]
    assert server.asked == asked
    assert (folder / "whole" / "rubric.json").read_bytes() == rubric
    assert not (folder / "whole" / "rubric.previous.json").exists()
