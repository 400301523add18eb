"""Killed at any moment and begun again, a run ends with the adapter of the run that nobody disturbed, bit for bit."""

import json
import random
import signal
import time

import pytest
from forked_run import ForkedRun, same_adapters, train, write_prompts


def checkpoints(folder):
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))


def history(folder, step):
    """What was logged, without times."""
    entries = json.loads((folder / f"checkpoint-{step}" / "trainer_state.json").read_text())["log_history"]
    return [{name: value for name, value in entry.items() if not name.endswith("_s")} for entry in entries]


def undisturbed(folder, files, ranks):
    started = time.monotonic()
    assert ForkedRun(train, folder, files, ranks=ranks, log=folder.with_suffix(".log")).wait() == [0] * ranks
    return time.monotonic() - started


def test_killed_in_the_middle_of_a_save_and_of_a_step_it_ends_with_the_same_adapter(tmp_path):
    files = write_prompts(tmp_path)
    undisturbed(tmp_path / "whole", files, 1)

    killed, log = tmp_path / "killed", tmp_path / "killed.log"
    run = ForkedRun(train, killed, files, log=log)
    while run.alive() and not (killed / ".writing" / "checkpoint-3" / "optimizer.pt").exists():
        time.sleep(0.005)
    run.kill()
    assert checkpoints(killed)[-1:] == [2]

    run = ForkedRun(train, killed, files, log=log)
    while run.alive() and not (killed / "checkpoint-7").exists():
        time.sleep(0.005)
    time.sleep(random.Random().uniform(0, 0.1))
    run.kill()
    assert not (killed / "ARR-tiny").exists()

    assert ForkedRun(train, killed, files, log=log).wait() == [0]
    assert not (killed / ".writing").exists()
    assert same_adapters(tmp_path / "whole", killed)
    assert history(tmp_path / "whole", 10) == history(killed, 10)


def test_killed_after_its_last_checkpoint_it_trains_no_further_step(tmp_path):
    files = write_prompts(tmp_path)
    undisturbed(tmp_path / "whole", files, 1)
    (tmp_path / "whole" / "ARR-tiny").rename(tmp_path / "ARR-tiny")
    assert ForkedRun(train, tmp_path / "whole", files, log=tmp_path / "log").wait() == [0]
    assert checkpoints(tmp_path / "whole")[-1] == 10
    assert same_adapters(tmp_path / "whole", tmp_path)


def test_two_processes_resume_in_the_middle_of_a_rollout_with_the_same_adapter(tmp_path):
    files = write_prompts(tmp_path)
    undisturbed(tmp_path / "whole", files, 2)
    killed, log = tmp_path / "killed", tmp_path / "killed.log"
    run = ForkedRun(train, killed, files, ranks=2, log=log)
    while run.alive() and not (killed / "checkpoint-3").exists():
        time.sleep(0.005)
    run.kill()
    assert ForkedRun(train, killed, files, ranks=2, log=log).wait() == [0, 0]
    assert same_adapters(tmp_path / "whole", killed)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_at_twenty_random_moments_it_ends_with_the_same_adapter(tmp_path, ranks):
    files = write_prompts(tmp_path)
    seconds = undisturbed(tmp_path / "whole", files, ranks)
    moments = random.Random(ranks)
    killed, log = tmp_path / "killed", tmp_path / "killed.log"
    kills = 0
    while kills < 20:
        run = ForkedRun(train, killed, files, ranks=ranks, log=log)
        time.sleep(moments.uniform(0, 0.9 * seconds))
        if not run.alive():  # it came to its end: once more from the beginning
            assert run.wait() == [0] * ranks
            assert same_adapters(tmp_path / "whole", killed)
            killed = tmp_path / f"killed_{kills}"
            continue
        run.kill()
        kills += 1
    assert ForkedRun(train, killed, files, ranks=ranks, log=log).wait() == [0] * ranks
    assert same_adapters(tmp_path / "whole", killed)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_training_with_a_checkpoint_a_sentence_and_its_status(tmp_path, number, status):
    files = write_prompts(tmp_path)
    folder, log = tmp_path / "run", tmp_path / "log"
    settings = {"save_strategy": "no", "max_steps": 4000}
    run = ForkedRun(train, folder, files, log=log, logging_steps=1, **settings)
    while run.alive() and "'loss'" not in log.read_text():
        time.sleep(0.02)
    run.signal(number)
    assert run.wait() == [status]
    (step,) = checkpoints(folder)
    assert f"interrupted after step {step} of 4000" in log.read_text()
    assert f"--resume_from_checkpoint {folder / f'checkpoint-{step}'}" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_signal_to_one_of_two_processes_ends_both(tmp_path):
    files = write_prompts(tmp_path)
    folder, log = tmp_path / "run", tmp_path / "log"
    run = ForkedRun(train, folder, files, ranks=2, log=log, max_steps=4000, save_strategy="no", logging_steps=1)
    while run.alive() and "'loss'" not in log.read_text():
        time.sleep(0.02)
    run.signal(signal.SIGTERM, rank=1)
    assert run.wait() == [143, 143]
    (step,) = checkpoints(folder)
    assert {f"rollout_state_{rank}.pt" for rank in range(2)} <= {
        p.name for p in (folder / f"checkpoint-{step}").iterdir()
    }
