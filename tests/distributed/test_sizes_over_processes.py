"""Processes whose rows ask for pictures of other sizes: each runs as many forwards as the others, and the run is the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_parity import PORT, STEPS, assert_same_training, history

from arr_trl.shipped import examples
from arr_trl.tiny_scenes import build_pipeline


# of two rollouts of four prompts, two for each process: one size beside two, then two beside one
SIZES = [(32, 32), (32, 32), (32, 64), (64, 32), (64, 32), (32, 64), (32, 64), (32, 64)]
REWARD = """
import numpy as np

def brightness(prompts, completions, **columns):
    return [float(np.asarray(image).mean()) for image in completions]
"""
PROCESSES = ("--num_processes", "2", "--main_process_port", PORT)


def train(
    folder: Path, name: str, micro_batch: int, *further: str, program: tuple[str, ...] = ("-m", "arr_trl.cli.main")
) -> Path:
    output = folder / name
    options = f"""
        rpo --model_name_or_path {folder / "tiny-flux"} --dataset_name {folder / "prompts.jsonl"}
        --eval_dataset_name {folder / "prompts.jsonl"} --eval_dataset_split train --reward_funcs rewards.brightness --height 32 --width 32
        --max_sequence_length 12 --num_inference_steps 3 --eval_num_inference_steps 1 --sde_type cps --noise_level 0.8
        --sde_window_size 2 --beta 0.05 --gradient_accumulation_steps 2 --max_steps {STEPS} --shuffle_dataset false
        --per_device_train_batch_size {micro_batch} --logging_steps 1 --save_strategy no --bf16 false --use_cpu true
        --report_to none --disable_tqdm true --output_dir {output} --adapter_subfolder ARR-tiny-flux
    """
    result = subprocess.run(
        [sys.executable, *program, *options.split(), *further],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    build_pipeline(seed=0).save_pretrained(folder / "tiny-flux")
    rows = [{"prompt": f"a red circle {i}", "height": h, "width": w} for i, (h, w) in enumerate(SIZES)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "rewards.py").write_text(REWARD)
    return folder


@pytest.fixture(scope="module")
def one_process(folder):
    return train(folder, "one", 8)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["ddp", "fsdp2"])
def test_processes_with_pictures_of_other_sizes_train_what_one_does(folder, one_process, config):
    if config == "ddp":
        two = train(folder, config, 4, "--accelerate_config", config, *PROCESSES)
    else:
        file = examples() / "accelerate_configs" / f"{config}.yaml"
        launch = ("-m", "accelerate.commands.launch", "--config_file", str(file), *PROCESSES)
        two = train(folder, config, 4, program=(*launch, str(Path(__file__).with_name("fsdp2_on_cpu.py"))))
    assert_same_training(one_process, two)
    assert len(history(two)) == STEPS
    results = [json.loads((folder / "results.json").read_text()) for folder in (one_process, two)]
    assert results[0]["win_rate"] == results[1]["win_rate"]
    if config == "fsdp2":
        forwards = [int((two / f"forwards_{rank}.txt").read_text()) for rank in range(2)]
        assert forwards[0] == forwards[1] > 0
