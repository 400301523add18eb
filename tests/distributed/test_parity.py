"""Two processes, launched as a user would, train what one process trains on the same global batch."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from arr_trl.cli.main import main
from arr_trl.data import RepeatSampler
from arr_trl.shipped import examples
from arr_trl.tiny_scenes import prompts


PROMPTS_PER_STEP, STEPS = 4, 2
PORT = str(29600 + os.getpid() % 300)
RUBRIC = Path(__file__).parents[2] / "examples" / "rubrics" / "tiny_scenes.json"
# three prompts to evaluate on: one process gets two of them, the other one
RECIPE = f"""
    --model_name_or_path tiny_scenes --dataset_name tiny_scenes --judge_model tiny_scenes --rubric {RUBRIC}
    --eval_dataset_split test[:3] --eval_funcs arr_trl.tiny_scenes.success --height 32 --width 32
    --max_sequence_length 12 --num_inference_steps 4 --eval_num_inference_steps 1 --sde_type cps --noise_level 0.8
    --sde_window_size 2 --beta 0.05 --gradient_accumulation_steps 2 --max_steps {STEPS}
    --logging_steps 1 --save_strategy no --bf16 false --use_cpu true --report_to none --disable_tqdm true
"""


def train(
    folder: Path, transitions: int, *options: str, program: tuple[str, ...] = ("-m", "arr_trl.cli.main")
) -> Path:
    """`arr-trl rpo`; two micro-steps of `transitions` per process for each optimizer step."""
    batch = ("--per_device_train_batch_size", str(transitions), "--output_dir", str(folder))
    command = [sys.executable, *program, "rpo", *RECIPE.split(), *batch, *options]
    result = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def two_processes(folder: Path, accelerate_config: str, *options: str) -> Path:
    launch = ("--accelerate_config", accelerate_config, "--num_processes", "2", "--main_process_port", PORT)
    return train(folder, PROMPTS_PER_STEP, *launch, *options)


def two_sharded_processes(folder: Path, *options: str) -> Path:
    """Like `two_processes(folder, "fsdp2")` on GPUs."""
    launch = (
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(examples() / "accelerate_configs" / "fsdp2.yaml"),
    )
    launch += ("--num_processes", "2", "--main_process_port", PORT, str(Path(__file__).with_name("fsdp2_on_cpu.py")))
    return train(folder, PROMPTS_PER_STEP, *options, program=launch)


CHECKPOINTS = ("--save_strategy", "steps", "--save_steps", "1")


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return train(tmp_path_factory.mktemp("parity") / "one", 2 * PROMPTS_PER_STEP, *CHECKPOINTS)


def history(folder: Path) -> list[dict]:
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in log if "loss" in entry]


def assert_same_training(one: Path, two: Path) -> None:
    steps = list(zip(history(one), history(two), strict=True))
    assert len(steps) == STEPS
    assert steps[-1][0]["policy/kl"] > 0
    for expected, found in steps:
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-6)
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
        assert found["policy/kl"] == pytest.approx(expected["policy/kl"], rel=1e-3)
    adapter = "ARR-tiny-flux/adapter_model.safetensors"
    # at the default learning rate: AdamW makes steps of that size even where a gradient is nothing but rounding
    expected, found = load_file(one / adapter), load_file(two / adapter)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)


def assert_same_run(one: Path, two: Path) -> None:
    assert_same_training(one, two)
    results = [json.loads((folder / "results.json").read_text()) for folder in (one, two)]
    for name in ("prompts", "trained", "win_rate", "transformer_forwards"):
        assert results[0][name] == results[1][name], name


def judged(folder: Path) -> list[tuple[str, str]]:
    """Prompt and pictures of every question, and so what every process compared."""
    with sqlite3.connect(folder / "judge.sqlite") as store:
        return store.execute("SELECT prompt, images FROM questions").fetchall()


@pytest.mark.slow
def test_two_processes_train_what_one_does(one_process, tmp_path):
    two = two_processes(tmp_path / "ddp", "ddp")
    assert_same_run(one_process, two)

    # each prompt's pair was judged together, in both orders; none was lost and none came twice
    order = list(RepeatSampler(480, PROMPTS_PER_STEP, 1, shuffle=True, seed=42))[: PROMPTS_PER_STEP * STEPS]
    expected = sorted(prompts("train")["prompt"][i] for i in order for _ in range(2))
    held_out = set(prompts("test")["prompt"])
    for folder in (one_process, two):
        assert sorted(prompt for prompt, _ in judged(folder) if prompt not in held_out) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("own_extensions")
@pytest.mark.parametrize("accelerate_config", ["zero2", "zero3"])
def test_deepspeed_trains_what_one_process_does(one_process, tmp_path, accelerate_config):
    pytest.importorskip("deepspeed")
    assert_same_run(one_process, two_processes(tmp_path / accelerate_config, accelerate_config))


@pytest.mark.slow
@pytest.mark.usefixtures("own_extensions")
@pytest.mark.parametrize("accelerate_config", ["zero2", "zero3"])
def test_frozen_copies_of_the_adapter_go_with_deepspeed(tmp_path, accelerate_config):
    """An average of the adapter that is evaluated and released: read from shards, written to shards."""
    pytest.importorskip("deepspeed")
    options = ("--ema_decay", "0.5")
    one = train(tmp_path / "one", 2 * PROMPTS_PER_STEP, *options)
    assert_same_run(one, two_processes(tmp_path / accelerate_config, accelerate_config, *options))


@pytest.mark.slow
def test_offloaded_blocks_go_with_several_processes(one_process, tmp_path):
    assert_same_run(one_process, two_processes(tmp_path / "ddp", "ddp", "--offload_blocks", "true"))


@pytest.mark.slow
def test_base_in_8_bits_goes_with_several_processes(tmp_path):
    options = ("--base_precision", "fp8", "--seed", "1")  # with the default seed all first pairs are ties
    one = train(tmp_path / "one", 2 * PROMPTS_PER_STEP, *options)
    assert_same_training(one, two_processes(tmp_path / "ddp", "ddp", *options))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return two_sharded_processes(tmp_path_factory.mktemp("fsdp2") / "two", *CHECKPOINTS)


@pytest.mark.slow  # half a minute of both cores; test_groups_over_processes.py stays among the fast ones
def test_fsdp2_trains_what_one_process_does(one_process, sharded):
    assert_same_run(one_process, sharded)
    for rank in range(2):
        assert json.loads((sharded / f"share_{rank}.json").read_text()) == {"base": 0.5, "adapter": 0.5}


def test_run_under_fsdp2_goes_on_in_one_process(one_process, sharded, tmp_path):
    # the same global batch, from twice the micro-steps
    options = ("--per_device_train_batch_size", str(PROMPTS_PER_STEP), "--gradient_accumulation_steps", "4")
    checkpoint = ("--resume_from_checkpoint", str(sharded / "checkpoint-1"))
    assert main(["rpo", *RECIPE.split(), *options, *checkpoint, "--output_dir", str(tmp_path)]) == 0
    assert_same_run(one_process, tmp_path)


@pytest.mark.slow
def test_run_of_one_process_goes_on_under_fsdp2(one_process, tmp_path):
    checkpoint = ("--resume_from_checkpoint", str(one_process / "checkpoint-1"))
    assert_same_run(one_process, two_sharded_processes(tmp_path, *checkpoint))


@pytest.mark.slow
def test_fsdp2_resumes_as_if_it_had_not_stopped(sharded, tmp_path):
    resumed = two_sharded_processes(tmp_path, "--resume_from_checkpoint", str(sharded / "checkpoint-1"))
    adapter = "ARR-tiny-flux/adapter_model.safetensors"
    assert history(resumed)[-1]["loss"] == history(sharded)[-1]["loss"]
    assert (resumed / adapter).read_bytes() == (sharded / adapter).read_bytes()
    # it holds the adapter and no more, as on one process
    assert sum(file.stat().st_size for file in (sharded / "checkpoint-1").iterdir()) < 4e6


@pytest.mark.slow
def test_layers_outside_the_blocks_train_on_after_an_evaluation_under_fsdp2(tmp_path):
    options = ("--lora_target_modules", "x_embedder", "proj_out", "attn.to_q", "--gradient_checkpointing", "true")
    options += ("--eval_strategy", "steps", "--eval_steps", "1", "--max_grad_norm", "0.005")
    one = train(tmp_path / "one", 2 * PROMPTS_PER_STEP, *options)
    assert_same_training(one, two_sharded_processes(tmp_path / "two", *options))


@pytest.mark.slow
def test_fsdp2_adds_up_gradients_in_float32(tmp_path):
    options = ("--bf16", "true", "--steps_per_generation", "1", "--gradient_accumulation_steps", "32")
    copies = two_processes(tmp_path / "ddp", "ddp", *options)
    assert_same_training(copies, two_sharded_processes(tmp_path / "fsdp2", *options))
