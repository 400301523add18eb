"""Killed at any moment and run again: the dataset of the run that nobody disturbed, and nothing paid twice."""

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from forked_run import ForkedRun
from openai_server import OpenAIServer

from arr_trl.cli.main import main
from arr_trl.tiny_scenes import TinyScenesJudge


ROOT = Path(__file__).parents[2]
DRAWS = [
    "--height", "32", "--width", "32", "--num_inference_steps", "2", "--guidance_scale", "1", "--batch_size", "8",
    "--limit", "24", "--prompts_at_once", "10", "--judge_model", "m", "--output", "out",
]  # fmt: skip
COMMANDS = {
    "rich": [
        "pairs", "rich", *DRAWS, "--model", "tiny_scenes_edit", "--dataset", "tiny_scenes_edit", "--condition_size", "32",
        "--rubric", str(ROOT / "examples/rubrics/tiny_scenes_edit.json"), "--min_edited_wins", "0",
    ],
    "best-worst": [
        "pairs", "best-worst", *DRAWS, "--model", "tiny_scenes", "--dataset", "tiny_scenes", "--max_sequence_length", "12",
        "--rubric", str(ROOT / "examples/rubrics/tiny_scenes.json"), "--judge_pairs", "cycle",
    ],
}  # fmt: skip


def make_pairs(command, folder, url, concurrency):
    os.chdir(folder)
    raise SystemExit(main([*COMMANDS[command], "--base_url", url, "--judge_max_concurrency", str(concurrency)]))


class Server(OpenAIServer):
    """Remembers what it was asked for the pairs, without the one token of each check."""

    @property
    def asked(self) -> Counter:
        return Counter(json.dumps(body["messages"]) for body in self.requests if body["max_tokens"] > 1)


def start(command, folder, server, concurrency=1):
    folder.mkdir(exist_ok=True)
    return ForkedRun(make_pairs, command, folder, server.url, concurrency, log=folder / "log")


def dataset(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "out" / "data").iterdir())}


@pytest.fixture(scope="module", params=list(COMMANDS))
def whole(request, tmp_path_factory):
    """The undisturbed run: its command, its dataset, and what was asked for it."""
    folder = tmp_path_factory.mktemp("runs")
    with Server(TinyScenesJudge()) as server:
        assert start(request.param, folder / "whole", server).wait() == [0], (folder / "whole/log").read_text()
        report = json.loads((folder / "whole/out/report.json").read_text())
        assert report["pairs"] >= 3
        assert report["cost"]["requests"] == sum(server.asked.values())
        yield request.param, folder, dataset(folder / "whole"), server.asked


@pytest.mark.slow
def test_killed_while_any_question_is_open_it_asks_again_only_that(whole):
    command, folder, wanted, asked = whole
    assert set(asked.values()) == {1}
    moments = sorted(random.Random(0).sample(range(1, sum(asked.values())), 5))
    run = None

    def respond(number, body):
        # while the request is in flight, and one at a time
        if moments and sum(server.asked.values()) > moments[0]:
            moments.pop(0)
            unanswered[json.dumps(body["messages"])] += 1
            os.kill(run.processes[0].pid, signal.SIGKILL)

    unanswered = Counter()
    with Server(TinyScenesJudge(), respond) as server:
        while True:
            run = start(command, folder / "killed", server)
            if run.wait() == [0]:
                break
    assert not moments
    assert dataset(folder / "killed") == wanted
    assert server.asked == asked + unanswered


@pytest.mark.slow
def test_killed_at_random_moments_it_repeats_no_more_than_was_in_flight(whole):
    command, folder, wanted, asked = whole
    draws = random.Random()
    kills = 0
    with Server(TinyScenesJudge(), latency_s=0.02) as server:
        while kills < 6:
            run = start(command, folder / "random", server, concurrency=4)
            time.sleep(draws.uniform(0.5, 4.0))  # drawing too, which no request tells of
            if not run.alive():
                break
            run.kill()
            kills += 1
        assert start(command, folder / "random", server, concurrency=4).wait() == [0]
    assert dataset(folder / "random") == wanted
    assert server.asked.keys() == asked.keys()
    assert sum((server.asked - asked).values()) <= 4 * kills
