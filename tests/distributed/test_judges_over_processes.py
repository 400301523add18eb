"""Judges learn on two processes what they learn on one, and one that was killed goes on to the same bytes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_judge import preset, write_files

from arr_trl.judges import save_preset


PORT = str(29900 + os.getpid() % 90)
STEPS = 4


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = write_files(tmp_path_factory.mktemp("files"))
    save_preset(preset(read={"tag": "score", "low": 0, "high": 10}, scale=(0, 10)), folder / "scores")
    return folder


def command(files: Path, output: Path, *options: str) -> list[str]:
    settings = f"""
        --model_name_or_path {files}/model --dataset_name {files}/train.jsonl --output_dir {output} --max_steps {STEPS}
        --lr_scheduler_type constant --warmup_steps 0 --save_strategy steps --save_steps 1 --logging_steps 1
        --gradient_checkpointing false --report_to none --lora_r 4 --lora_alpha 8 --use_cpu true --bf16 false
        --disable_tqdm true
    """
    return [sys.executable, "-m", "arr_trl.cli.main", "judge", "train", *settings.split(), *options]


def train(*args) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command(*args), env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def first_token(files: Path, rows: int) -> list[str]:
    return [
        "--judge_preset",
        f"{files}/preset",
        "--per_device_train_batch_size",
        str(rows),
        "--gradient_accumulation_steps",
        "2",
    ]


def losses(folder: Path) -> list[float]:
    log = json.loads((folder / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in log if "loss" in entry]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def one_process(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "judge"
    train(files, folder, *first_token(files, 2))
    return folder


@pytest.mark.slow
def test_two_processes_teach_a_judge_what_one_does(files, one_process, tmp_path):
    launch = ("--accelerate_config", "ddp", "--num_processes", "2", "--main_process_port", PORT)
    train(files, tmp_path, *first_token(files, 1), *launch)
    assert losses(tmp_path) == pytest.approx(losses(one_process), abs=1e-5)
    for name, value in adapter(one_process).items():
        torch.testing.assert_close(adapter(tmp_path)[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_traces_about_a_pair_are_compared_on_one_process(files, tmp_path):
    # a pair that was split would end the run
    options = [
        "--method",
        "gcpo",
        "--judge_preset",
        f"{files}/scores",
        "--num_generations",
        "2",
        "--max_completion_length",
        "3",
    ]
    batch = ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2"]
    launch = ["--accelerate_config", "ddp", "--num_processes", "2", "--main_process_port", PORT]
    train(files, tmp_path, *options, *batch, *launch)
    log = json.loads((tmp_path / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())["log_history"]
    assert log[0]["gcpo/unreadable"] == 1.0
    assert log[0]["gcpo/skipped"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["first-token", "gcpo"])
def test_a_judge_that_was_killed_ends_with_the_same_bytes(files, tmp_path, method):
    options = first_token(files, 2)
    if method == "gcpo":
        options = ["--method", "gcpo", "--judge_preset", f"{files}/scores", "--num_generations", "2"]
        options += [
            "--max_completion_length",
            "3",
            "--per_device_train_batch_size",
            "4",
            "--gradient_accumulation_steps",
            "1",
        ]
    train(files, tmp_path / "whole", *options)
    killed = tmp_path / "killed"
    run = subprocess.Popen(command(files, killed, *options), env={**os.environ, "OMP_NUM_THREADS": "1"})
    while run.poll() is None and not (killed / "checkpoint-2").exists():
        time.sleep(0.005)
    run.kill()
    run.wait()
    train(files, killed, *options, "--resume_from_checkpoint", "true")
    whole, again = adapter(tmp_path / "whole"), adapter(killed)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(killed)
