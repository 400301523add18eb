"""
A small streamed training in processes of its own, forked from the test's, so that it can be killed and begun again in
a second. Several ranks talk over gloo, as under torchrun.
"""

import json
import multiprocessing
import os
import shutil
import socket
import sys
import traceback
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState, PartialState
from datasets import load_dataset
from peft import LoraConfig
from safetensors.torch import load_file

from arr_trl import RPOTrainer
from arr_trl.tiny_scenes import build_pipeline
from arr_trl.trainer import FlowTrainer, OnlineTrainer, TrajectoryTrainer


ADAPTER = Path("ARR-tiny", "adapter_model.safetensors")


def brightness(prompts, completions, **columns):
    return [float(np.asarray(image).mean()) for image in completions]


PROMPTS = [f"a red circle {i}" for i in range(21)]


def write_prompts(folder: Path, prompts: list[str] = PROMPTS, files: int = 3) -> list[str]:
    for k in range(files):
        lines = [json.dumps({"prompt": prompt}) for prompt in prompts[k::files]]
        (folder / f"prompts_{k}.jsonl").write_text("\n".join(lines))
    return [str(folder / f"prompts_{k}.jsonl") for k in range(files)]


def build(
    output_dir: Path,
    files: list[str],
    reward=brightness,
    eval_dataset=None,
    model=None,
    lora: LoraConfig | None = None,
    trainer_class: type[FlowTrainer] = RPOTrainer,
    **overrides,
) -> FlowTrainer:
    """A rollout of two prompts a rank lasts for two optimizer steps; three epochs of the prompts in ten steps."""
    settings = dict(
        output_dir=str(output_dir),
        adapter_subfolder="ARR-tiny",
        height=32,
        width=32,
        max_sequence_length=12,
        num_inference_steps=3,
        eval_num_inference_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        shuffle_buffer_size=8,
        learning_rate=1e-2,
        max_steps=10,
        save_steps=1,
        logging_steps=3,
        bf16=False,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    if issubclass(trainer_class, OnlineTrainer):
        settings |= {"num_generations": 2, "steps_per_generation": 2}
    if issubclass(trainer_class, TrajectoryTrainer):
        settings["sde_window_size"] = 1
    return trainer_class(
        model=model or build_pipeline(seed=0),
        reward_funcs=reward,
        args=trainer_class._config_class(**{**settings, **overrides}),
        eval_dataset=eval_dataset,
        train_dataset=load_dataset("json", data_files=files, split="train", streaming=True),
        peft_config=lora or LoraConfig(r=2, lora_alpha=4) if overrides.get("use_peft", True) else None,
    )


def train(output_dir: Path, files: list[str], resume=True, **overrides) -> None:
    trainer = build(output_dir, files, **overrides)
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model()


class ForkedRun:
    """`target(*args, **kwargs)` in `ranks` forked processes; its output goes to `log`."""

    def __init__(self, target, *args, ranks: int = 1, log: Path, **kwargs):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log.touch()
        context = multiprocessing.get_context("fork")
        self.processes = [
            context.Process(target=_run, args=(rank, ranks, port, log, target, args, kwargs)) for rank in range(ranks)
        ]
        for process in self.processes:
            process.start()

    def alive(self) -> bool:
        return any(process.is_alive() for process in self.processes)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
        self.wait()

    def signal(self, number: int, rank: int = 0) -> None:
        os.kill(self.processes[rank].pid, number)

    def wait(self, seconds: float = 1800) -> list[int]:
        """The exit statuses."""
        for process in self.processes:
            process.join(seconds)
        return [process.exitcode for process in self.processes]


def _run(rank, ranks, port, log, target, args, kwargs):
    with open(log, "a", buffering=1) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    # what earlier tests of this process left behind
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    if ranks > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    torch.set_num_threads(1)
    status = 0
    try:
        target(*args, **kwargs)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def same_adapters(one: Path, other: Path) -> bool:
    first, second = load_file(one / ADAPTER), load_file(other / ADAPTER)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
