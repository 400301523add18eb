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
from arr_trl.shipped import examples


PORT = str(29900 + os.getpid() % 90)
STEPS = 4
LETTERS = str(Path(__file__).with_name("letters_as_scores.py"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = write_files(tmp_path_factory.mktemp("files"))
    save_preset(preset(read={"tag": "score", "low": 0, "high": 10}, scale=(0, 10)), folder / "scores")
    return folder


def options_of(method: str, files: Path, rows: int) -> list[str]:
    """Two micro-steps of `rows` on each process for an optimizer step."""
    batch = ["--per_device_train_batch_size", str(rows), "--gradient_accumulation_steps", "2"]
    if method == "first-token":
        return ["--judge_preset", f"{files}/preset", *batch]
    traces = ["--num_generations", "2", "--max_completion_length", "3", "--learning_rate", "2e-4"]
    return ["--method", method, "--judge_preset", f"{files}/scores", *traces, *batch]


def command(files: Path, output: Path, *options: str, program: tuple[str, ...] = (LETTERS,)) -> list[str]:
    settings = f"""
        --model_name_or_path {files}/model --dataset_name {files}/train.jsonl --output_dir {output} --max_steps {STEPS}
        --lr_scheduler_type constant --warmup_steps 0 --save_strategy steps --save_steps 1 --logging_steps 1
        --gradient_checkpointing false --report_to none --lora_r 4 --lora_alpha 8 --use_cpu true --bf16 false
        --disable_tqdm true
    """
    return [sys.executable, *program, "judge", "train", *settings.split(), *options]


def train(*args, **kwargs) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command(*args, **kwargs), env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def train_on_two(files: Path, output: Path, accelerate_config: str, *options: str) -> None:
    """As `--accelerate_config NAME --num_processes 2` does."""
    configuration = examples() / "accelerate_configs" / f"{accelerate_config}.yaml"
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(configuration), "--num_processes", "2"]
    train(files, output, *options, program=(*launch, "--main_process_port", PORT, LETTERS))


def log_of(folder: Path) -> list[dict]:
    log = json.loads((folder / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in log if "loss" in entry]


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in log_of(folder)]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def one_process(files, tmp_path_factory):
    """What one process trains with a method, once."""
    trained: dict[str, Path] = {}

    def folder_of(method: str) -> Path:
        if method not in trained:
            trained[method] = tmp_path_factory.mktemp("one") / "judge"
            train(files, trained[method], *options_of(method, files, rows={"first-token": 2, "gcpo": 8}[method]))
        return trained[method]

    return folder_of


# What has to be the same of each step, whoever draws and computes it.
MEASURED = {
    "first-token": ("first_token_accuracy", "mean_token_accuracy"),
    "gcpo": (
        "rewards/gcpo/mean",
        "gcpo/separated",
        "gcpo/inverted",
        "gcpo/skipped",
        "gcpo/unreadable",
        "completions/mean_length",
    ),
}


def assert_same_judge(method: str, one: Path, two: Path) -> None:
    steps = list(zip(log_of(one), log_of(two), strict=True))
    assert len(steps) == STEPS
    for expected, found in steps:
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
        for name in MEASURED[method]:
            assert found[name] == pytest.approx(expected[name], abs=1e-6), name
    before, after = adapter(one), adapter(two)
    assert before.keys() == after.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_pairs_that_are_compared_teach_something(one_process):
    log = log_of(one_process("gcpo"))
    assert all(entry["grad_norm"] > 1e-3 for entry in log)
    assert any(0 < entry["gcpo/unreadable"] < 1 for entry in log)


@pytest.mark.slow
@pytest.mark.usefixtures("own_extensions")
@pytest.mark.parametrize("accelerate_config", ["ddp", "zero2", "fsdp2"])
@pytest.mark.parametrize(("method", "rows"), [("first-token", 1), ("gcpo", 4)])
def test_two_processes_teach_a_judge_what_one_does(files, one_process, tmp_path, method, rows, accelerate_config):
    if accelerate_config == "zero2":
        pytest.importorskip("deepspeed")
    train_on_two(files, tmp_path, accelerate_config, *options_of(method, files, rows))
    assert_same_judge(method, one_process(method), tmp_path)
    if accelerate_config == "fsdp2":
        for rank in range(2):
            shares = json.loads((tmp_path / f"share_{rank}.json").read_text())
            assert all(share < 0.6 for share in shares.values()), shares


@pytest.mark.slow
@pytest.mark.parametrize("method", ["first-token", "gcpo"])
def test_a_judge_that_was_killed_ends_with_the_same_bytes(files, tmp_path, method):
    options = options_of(method, files, rows=4)
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
