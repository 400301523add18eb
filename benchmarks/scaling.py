"""
Does a long run stay as fast and as small as a short one, and does a larger set of prompts cost more per step?

python benchmarks/scaling.py --json out.json

Trains TinyScenes at 16×16 with two pairs per step: small, so that a thousand steps are minutes and everything beside the
transformer shows. CPU time tells the cost on a busy machine, wall time on an idle one.
"""

import argparse
import json
import tempfile
import time
from datetime import date
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback

from arr_trl import RPOConfig, RPOTrainer, RubricJudge
from arr_trl.policies import FluxPolicy
from arr_trl.tiny_scenes import TinyScenesJudge, load_pipeline, prompts
from arr_trl.tiny_scenes.judge import zero_shot_rubric


PAIRS = 2


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


class Clock(TrainerCallback):
    """Wall time, CPU time and resident memory after every step."""

    def __init__(self):
        self.steps: list[tuple[float, float, float]] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append((time.perf_counter(), time.process_time(), resident_mb()))

    def per_image_ms(self, first: int, last: int) -> tuple[float, float]:
        """Wall and CPU milliseconds per picture of the steps after `first` up to `last`, counted from 1."""
        images = 2 * PAIRS * (last - first)
        start, end = self.steps[first - 1], self.steps[last - 1]
        return (end[0] - start[0]) / images * 1e3, (end[1] - start[1]) / images * 1e3


def train(dataset: Dataset, steps: int) -> Clock:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        RPOTrainer(
            model=FluxPolicy(load_pipeline(), max_sequence_length=12),
            reward_funcs=RubricJudge(rubric=zero_shot_rubric(), model=TinyScenesJudge()),
            args=RPOConfig(
                output_dir=folder, height=16, width=16, max_sequence_length=12, num_inference_steps=2,
                sde_type="cps", noise_level=0.8, beta=0.0, per_device_train_batch_size=2 * PAIRS,
                gradient_accumulation_steps=1, max_steps=steps, logging_steps=10, save_strategy="no", report_to=[],
                bf16=False, gradient_checkpointing=False, use_cpu=True, disable_tqdm=True,
            ),
            train_dataset=dataset,
            peft_config=LoraConfig(r=16, lora_alpha=32),
            callbacks=[clock],
        ).train()  # fmt: skip
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    dataset = prompts("train")
    clock = train(dataset, args.steps)
    part = args.steps // 10
    marks = [(10 + i * part, min(10 + (i + 1) * part, args.steps)) for i in range(10)]
    print("| steps | wall ms per picture | CPU ms per picture | resident MB |\n|---|---|---|---|")
    rows = []
    for first, last in marks:
        wall, cpu = clock.per_image_ms(first, last)
        rows.append({"steps": [first, last], "wall_ms": wall, "cpu_ms": cpu, "resident_mb": clock.steps[last - 1][2]})
        print(f"| {first} to {last} | {wall:.1f} | {cpu:.1f} | {rows[-1]['resident_mb']:.0f} |")
    print(f"\nThe last part costs {rows[-1]['cpu_ms'] / rows[0]['cpu_ms']:.2f} times the first in CPU time.")

    # blanks at the end make other prompts of the same captions
    captions = dataset["prompt"]
    larger = Dataset.from_dict({"prompt": [f"{p}" + " " * k for k in range(10) for p in captions]})
    count = min(args.steps, 200)
    sizes = {}
    for name, rows_of in (("480", dataset), ("4,800", larger)):
        sizes[name] = train(rows_of, count).per_image_ms(10, count)
        print(f"{name} prompts: {sizes[name][0]:.1f} ms wall, {sizes[name][1]:.1f} ms CPU per picture.", flush=True)

    if args.json:
        figures = {
            "date": date.today().isoformat(),
            "device": f"CPU, {args.threads} threads",
            "parts": rows,
            "cpu_ms_last_over_first": rows[-1]["cpu_ms"] / rows[0]["cpu_ms"],
            "resident_mb_growth": rows[-1]["resident_mb"] - rows[0]["resident_mb"],
            "prompts": sizes,
            "cpu_ms_4800_over_480_prompts": sizes["4,800"][1] / sizes["480"][1],
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
