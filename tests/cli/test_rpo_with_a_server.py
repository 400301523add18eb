"""`arr-trl rpo` with its judge behind a real server: what a killed run asks again, and where its secrets go."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from openai_server import Answer, OpenAIServer, checks_pass, is_rehearsal

from arr_trl.cli.main import main
from arr_trl.tiny_scenes import TinyScenesJudge


ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-m", "arr_trl.cli.main", "rpo", "--config", "examples/configs/tiny_scenes_rpo.yaml"]
SMALL = [
    "--judge_model", "judge", "--per_device_train_batch_size", "16", "--num_inference_steps", "4", "--sde_window_range",
    "0", "3", "--eval_dataset_split", "test[:4]", "--eval_num_inference_steps", "2", "--save_steps", "1",
    "--logging_steps", "1",
]  # fmt: skip


def heed_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background


def run(output_dir, url, *more):
    return subprocess.Popen(
        [*RUN, *SMALL, "--output_dir", str(output_dir), "--base_url", url, *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=heed_ctrl_c,
    )


def verdicts(server):
    return [
        json.dumps(body["messages"])
        for number, body in enumerate(server.requests)
        if "response_format" in body and not checks_pass(number, body) and not is_rehearsal(body)
    ]


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_a_rollout_asks_nothing_again_that_was_answered(tmp_path):
    with OpenAIServer(TinyScenesJudge(), checks_pass, latency_s=0.05) as server:
        few = ("--max_steps", "3", "--judge_max_concurrency", "2")
        killed = run(tmp_path, server.url, *few)
        while len(verdicts(server)) < 24:  # a rollout has 16 questions: this is in the second
            assert killed.poll() is None, killed.stdout.read()
            time.sleep(0.01)
        killed.kill()
        killed.communicate()
        before = verdicts(server)
        again = run(tmp_path, server.url, *few, "--resume_from_checkpoint", "true")
        shown, _ = again.communicate()
    assert again.returncode == 0, shown
    asked = verdicts(server)
    twice = {question for question in asked if asked.count(question) > 1}
    # two were in flight, and what came in the last moment was not yet written
    assert twice <= set(before[-6:])
    assert len(set(asked)) == 3 * 16 + 4 * 2


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_run_whose_judge_hangs(tmp_path):
    def respond(number, body):
        return checks_pass(number, body) or Answer(hang_s=3600)

    with OpenAIServer(respond=respond) as server:
        hangs = run(tmp_path, server.url, "--max_steps", "1", "--rehearse_judge", "false")
        while not verdicts(server):
            assert hangs.poll() is None, hangs.stdout.read()
            time.sleep(0.05)
        hangs.send_signal(signal.SIGINT)
        while "SIGINT: finishing this step" not in hangs.stdout.readline():
            assert hangs.poll() is None
        hangs.send_signal(signal.SIGINT)
        try:
            shown, _ = hangs.communicate(timeout=100)  # one attempt of five lasts 120 s
        finally:
            hangs.kill()
    assert hangs.returncode == 130, shown
    assert shown.endswith("\nInterrupted.\n")
    assert "Traceback" not in shown


def test_secrets_of_the_judge_are_in_no_file_and_on_no_screen(tmp_path, monkeypatch, capfd):
    def respond(number, body):
        # the third verdict is refused, by a server that repeats what it was sent
        if len(verdicts(server)) == 3:
            return Answer(status=400, body=b'{"error": {"message": "key sk-very-secret token in-the-url"}}')
        return checks_pass(number, body)

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    with OpenAIServer(TinyScenesJudge(), respond) as server:
        where = ["--output_dir", str(tmp_path), "--base_url", server.url + "?token=in-the-url"]
        more = ["--max_steps", "1", "--api_key_env", "JUDGE_KEY", "--log_completions", "true"]
        assert main([*RUN[3:], *SMALL, *where, *more]) == 0
    assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
    shown = "".join(capfd.readouterr())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"README.md", "judge.sqlite", "results.json", "trainer_state.json"} <= {path.name for path in files}
    for secret in ("sk-very-secret", "in-the-url"):
        assert secret not in shown
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
