"""A process that ends is not kept alive by a server that does not answer."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from openai_server import Answer, OpenAIServer

from arr_trl.chat.at_exit import call_at_exit


JUDGES = """
import signal, sys
from PIL import Image
from arr_trl.chat import HTTPChatModel
from arr_trl.judges import EnsembleJudge, JudgeRow, RubricJudge

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
model = HTTPChatModel("judge", sys.argv[1])
judge = RubricJudge(rubric="examples/rubrics/tiny_scenes.json", model=model)
row = JudgeRow("a red circle", (Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), "white")))
"""


@pytest.mark.parametrize(
    "waiting",
    [
        "futures = [judge.submit([row]) for _ in range(10)]; judge.collect(futures)",  # more than begin at once
        "EnsembleJudge([judge, judge]).compare([row])",
        "future = EnsembleJudge([judge, judge]).submit([row]); future.result()",
    ],
)
def test_ctrl_c_ends_a_process_whose_judge_hangs(waiting):
    with OpenAIServer(respond=lambda number, body: Answer(hang_s=3600)) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", JUDGES + waiting, server.url],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        while not server.requests:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            shown = process.communicate(timeout=100)[1]  # one attempt of five lasts 120 s
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT, shown
    assert shown.rstrip().endswith("KeyboardInterrupt"), shown


class Ended:
    """Writes a line for each process that it is ended in."""

    def __init__(self, file):
        self.file = file

    def end(self):
        with self.file.open("a") as lines:
            lines.write(f"{os.getpid()}\n")


def test_workers_forked_from_a_run_with_a_judge_end_without_waiting_for_its_threads(tmp_path):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("workers are not forked here")
    ended = Ended(tmp_path / "ended.txt")
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=lambda: call_at_exit(ended.end))  # its own ends as ever
    process.start()
    process.join()
    assert ended.file.read_text() == f"{process.pid}\n"

    call_at_exit(ended.end)
    process = fork.Process(target=lambda: None)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert ended.file.read_text().count("\n") == 1
