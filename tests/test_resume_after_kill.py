"""Killed at any moment and begun again, a run ends with the adapter of the run that nobody disturbed, bit for bit."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
from forked_run import ForkedRun, build, same_adapters, train, write_prompts
from given_pairs import train_on_file
from tiny_pairs import write_pairs

from arr_trl import DiffusionNFTTrainer, FlowGRPOTrainer
from arr_trl.cli.main import main
from arr_trl.tiny_scenes import captions


ROOT = Path(__file__).parents[1]


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


def train_until_the_third_save(output_dir, files):
    """Goes no further than the middle of it, however fast the machine."""
    trainer = build(output_dir, files)
    save = trainer._save_rng_state

    def wait(folder):
        if folder.endswith("checkpoint-3"):
            time.sleep(600)
        save(folder)

    trainer._save_rng_state = wait
    trainer.train(resume_from_checkpoint=True)


def test_killed_in_the_middle_of_a_save_and_of_a_step_it_ends_with_the_same_adapter(tmp_path):
    files = write_prompts(tmp_path)
    undisturbed(tmp_path / "whole", files, 1)

    killed, log = tmp_path / "killed", tmp_path / "killed.log"
    run = ForkedRun(train_until_the_third_save, killed, files, log=log)
    while run.alive() and not (killed / ".writing" / "checkpoint-3" / "optimizer.pt").exists():
        time.sleep(0.005)
    run.kill()
    assert checkpoints(killed)[-1] == 2

    run = ForkedRun(train, killed, files, log=log)
    while run.alive() and not (killed / "checkpoint-7").exists():
        time.sleep(0.005)
    time.sleep(random.Random().uniform(0, 0.1))
    run.kill()

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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("trainer_class", "settings"),
    [
        # two optimizer steps for a rollout, against the policy that drew it
        (DiffusionNFTTrainer, {"num_train_points": 1, "old_policy_decay": 0.5, "old_policy_ramp": 0.1}),
        pytest.param(FlowGRPOTrainer, {"loss_type": "dppo", "sde_window_range": [0, 2]}, marks=pytest.mark.slow),
    ],
    ids=["nft", "grpo"],
)
def test_killed_between_two_steps_on_a_rollout_it_ends_with_the_same_adapter(tmp_path, trainer_class, settings):
    files, settings = write_prompts(tmp_path), {"trainer_class": trainer_class, "max_steps": 6, **settings}
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    assert ForkedRun(train, whole, files, log=log, **settings).wait(300) == [0], log.read_text()[-2000:]
    run = ForkedRun(train, killed, files, log=log, **settings)
    while run.alive() and not (killed / "checkpoint-3").exists():
        time.sleep(0.005)
    run.kill()
    assert ForkedRun(train, killed, files, log=log, **settings).wait(300) == [0]
    assert same_adapters(whole, killed)


@pytest.mark.slow
def test_killed_full_fine_tune_ends_with_the_same_files(tmp_path):
    files, settings = write_prompts(tmp_path), {"use_peft": False, "learning_rate": 1e-3, "max_steps": 6}
    # beside the weights an average and an older policy, which a checkpoint has to hold too
    settings |= {"ema_decay": 0.5, "old_policy_decay": 0.5, "old_policy_ramp": 0.1, "num_train_points": 1}
    settings["trainer_class"] = DiffusionNFTTrainer
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    assert ForkedRun(train, whole, files, log=log, **settings).wait(600) == [0], log.read_text()[-2000:]
    run = ForkedRun(train, killed, files, log=log, **settings)
    while run.alive() and not (killed / "checkpoint-3").exists():
        time.sleep(0.005)
    run.kill()
    assert checkpoints(killed)[-1] < 6
    assert ForkedRun(train, killed, files, log=log, **settings).wait(600) == [0]
    for folder in ("ARR-tiny", "checkpoint-6"):
        names = sorted(file.name for file in (whole / folder / "transformer").iterdir())
        assert names == ["config.json", "diffusion_pytorch_model.safetensors"]
        for name in names:
            place = Path(folder, "transformer", name)
            assert (whole / place).read_bytes() == (killed / place).read_bytes(), place
    for name in ("frozen_ema.safetensors", "frozen_old.safetensors"):
        assert (whole / "checkpoint-6" / name).read_bytes() == (killed / "checkpoint-6" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(("streaming", "ranks"), [(True, 1), (False, 1), (True, 2)])
def test_killed_run_on_given_pairs_ends_with_the_same_adapter(tmp_path, streaming, ranks):
    write_pairs(tmp_path, 20)
    file, settings = str(tmp_path / "pairs.jsonl"), {"streaming": streaming, "ranks": ranks}
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    run = ForkedRun(lambda: train_on_file(whole, file, **settings), ranks=ranks, log=log)
    assert run.wait(600) == [0] * ranks, log.read_text()[-2000:]
    run = ForkedRun(lambda: train_on_file(killed, file, **settings), ranks=ranks, log=log)
    while run.alive() and not (killed / "checkpoint-3").exists():
        time.sleep(0.005)
    run.kill()
    assert checkpoints(killed)[-1] < 6
    run = ForkedRun(lambda: train_on_file(killed, file, **settings), ranks=ranks, log=log)
    assert run.wait(600) == [0] * ranks, log.read_text()[-2000:]
    assert same_adapters(whole, killed)
    names = "rewards/margins", "policy/chosen_error", "loss"
    logged = [[entry.get(name) for name in names] for entry in history(whole, 6)]
    assert logged == [[entry.get(name) for name in names] for entry in history(killed, 6)]


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [True, False])
def test_two_processes_train_on_given_pairs_what_one_does(tmp_path, streaming):
    write_pairs(tmp_path, 20)
    file, folders = str(tmp_path / "pairs.jsonl"), [tmp_path / "one", tmp_path / "two"]
    for ranks, folder in enumerate(folders, start=1):
        run = ForkedRun(
            lambda folder=folder, ranks=ranks: train_on_file(folder, file, streaming, ranks),
            ranks=ranks,
            log=tmp_path / "log",
        )
        assert run.wait(600) == [0] * ranks, (tmp_path / "log").read_text()[-2000:]
    one, two = ([entry for entry in history(folder, 6) if "loss" in entry] for folder in folders)
    for expected, found in zip(one, two, strict=True):
        for name in ("loss", "grad_norm", "rewards/margins", "policy/chosen_error"):
            assert found[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-5), name


def kill_twenty_times(start, whole, longest, moments):
    """Kill the run that `start(folder)` starts within `longest` seconds, twenty times, and let it end."""
    folders = [whole.with_name("killed_1")]
    for _ in range(20):
        run = start(folders[-1])
        time.sleep(moments.uniform(0, longest))
        if not run.alive():  # it came to its end: once more from the beginning
            assert set(run.wait()) == {0}
            folders.append(whole.with_name(f"killed_{len(folders) + 1}"))
            run = start(folders[-1])
            time.sleep(moments.uniform(0, longest))
        run.kill()
    assert set(start(folders[-1]).wait()) == {0}
    for folder in folders:
        assert same_adapters(whole, folder), folder


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_small_run_killed_at_twenty_random_moments_ends_with_the_same_adapter(tmp_path, ranks):
    files = write_prompts(tmp_path)
    seconds = undisturbed(tmp_path / "whole", files, ranks)

    def start(folder):
        return ForkedRun(train, folder, files, ranks=ranks, log=tmp_path / "log")

    kill_twenty_times(start, tmp_path / "whole", 0.9 * seconds, random.Random(ranks))


def quickstart(output_dir, *flags):
    """`make quickstart` with streamed prompts, forty of its steps, and six captions to evaluate on."""
    status = main([
        "rpo", "--config", str(ROOT / "examples/configs/tiny_scenes_rpo.yaml"), "--output_dir", str(output_dir),
        "--rubric", str(ROOT / "examples/rubrics/tiny_scenes.json"), "--dataset_streaming", "true",
        "--shuffle_buffer_size", "200", "--eval_dataset_split", "train[:2]", "--max_steps", "40", "--save_steps", "4",
        "--save_total_limit", "2", "--disable_tqdm", "true", "--adapter_subfolder", "ARR-tiny",
        "--resume_from_checkpoint", "true", *flags,
    ])  # fmt: skip
    raise SystemExit(status)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_quickstart_killed_at_twenty_random_moments_ends_with_the_same_adapter(tmp_path, ranks):
    files = write_prompts(tmp_path, captions("train"))
    flags = ["--dataset_name", *files, "--per_device_train_batch_size", str(128 // ranks)]

    def start(folder):
        return ForkedRun(quickstart, folder, *flags, ranks=ranks, log=tmp_path / "log")

    started = time.monotonic()
    assert set(start(tmp_path / "whole").wait()) == {0}
    kill_twenty_times(start, tmp_path / "whole", (time.monotonic() - started) / 8, random.Random(ranks))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_training_with_a_checkpoint_a_sentence_and_its_status(tmp_path, number, status):
    files = write_prompts(tmp_path)
    folder, log = tmp_path / "run", tmp_path / "log"
    settings = {"save_strategy": "no", "max_steps": 4000}
    run = ForkedRun(train, folder, files, log=log, logging_steps=1, **settings)
    while run.alive() and "step 2/4000" not in log.read_text():
        time.sleep(0.02)
    run.signal(number)
    assert run.wait() == [status]
    (step,) = checkpoints(folder)
    assert f"interrupted after step {step} of 4000" in log.read_text()
    assert f"--resume_from_checkpoint {folder / f'checkpoint-{step}'}" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_signal_to_one_of_two_processes_ends_both(tmp_path):
    files = write_prompts(tmp_path)
    folder, log = tmp_path / "run", tmp_path / "log"
    run = ForkedRun(train, folder, files, ranks=2, log=log, max_steps=4000, save_strategy="no", logging_steps=1)
    while run.alive() and "step 2/4000" not in log.read_text():
        time.sleep(0.02)
    run.signal(signal.SIGTERM, rank=1)
    assert run.wait() == [143, 143]
    (step,) = checkpoints(folder)
    assert {f"rollout_state_{rank}.pt" for rank in range(2)} <= {
        p.name for p in (folder / f"checkpoint-{step}").iterdir()
    }
