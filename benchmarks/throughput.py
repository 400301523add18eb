"""
How much faster than the obvious loop, on the same work with the same result?

python benchmarks/throughput.py --json out.json

Trains TinyScenes with naive_loop.py and with `RPOTrainer`, from the same noise, and compares the adapters they end with.
The judge answers at once, and then takes a second for each call. Passes of the transformer are counted by hooks and held
against the formula; operations are counted by torch and held against the rate of a plain matrix product (MFU).
`--threads 1` is what a busy machine needs. For FLUX.1-dev at full size on a GPU see full_size.py.
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from naive_loop import NaiveLoop
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode

from arr_trl import RPOConfig, RPOTrainer, RubricJudge
from arr_trl.policies import FluxPolicy
from arr_trl.tiny_scenes import TinyScenesJudge, load_pipeline, prompts
from arr_trl.tiny_scenes.judge import zero_shot_rubric
from arr_trl.trainer.buffer import random_at
from arr_trl.trainer.cost import rollout_forwards
from arr_trl.trainer.trajectory_trainer import draw_window


# Eight steps and two candidates, as for FLUX.1-dev. With the window, two of the first four steps are noisy.
RECIPES = {
    "window": dict(
        sde_type="cps",
        noise_level=0.8,
        sde_window_size=2,
        sde_window_range=[0, 4],
        share_initial_noise=True,
    ),
    "paper": dict(sde_type="dance", noise_level=0.3, share_initial_noise=False),
}


def configuration(recipe: str, pairs: int, steps: int, folder: Path) -> RPOConfig:
    trained = RECIPES[recipe].get("sde_window_size", 7)
    return RPOConfig(
        output_dir=str(folder / "trainer"),
        height=32,
        width=32,
        max_sequence_length=12,
        guidance_scale=3.5,
        beta=0.01,
        per_device_train_batch_size=pairs * 2 * trained,
        gradient_accumulation_steps=1,
        rollout_batch_size=16,
        learning_rate=6e-4,
        lr_scheduler_type="constant",
        max_steps=steps,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        disable_tqdm=True,
        **RECIPES[recipe],
    )


def judge(latency_s: float) -> RubricJudge:
    return RubricJudge(rubric=zero_shot_rubric(), model=TinyScenesJudge(latency_s=latency_s))


def policy() -> FluxPolicy:
    return FluxPolicy(load_pipeline(), max_sequence_length=12)


def adapter(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if "lora_" in name}


@dataclass
class Clock:
    """Seconds on the wall and of computing; on a busy machine only the latter tell how much work it was."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __enter__(self) -> "Clock":
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_) -> None:
        wall, cpu = self._started
        self.wall_s, self.cpu_s = time.perf_counter() - wall, time.process_time() - cpu


def run_naive(args: RPOConfig, latency_s: float, folder: Path) -> tuple[Clock, NaiveLoop]:
    loop = NaiveLoop(policy(), judge(latency_s), args, LoraConfig(r=16, lora_alpha=32), folder)
    with Clock() as clock:
        loop.train(prompts("train")["prompt"])
    return clock, loop


def run_trainer(args: RPOConfig, latency_s: float) -> tuple[Clock, RPOTrainer, dict[str, float]]:
    """What it took, the trainer, and the seconds of each phase."""
    trainer = RPOTrainer(
        model=policy(), reward_funcs=judge(latency_s), args=args, train_dataset=prompts("train"),
        peft_config=LoraConfig(r=16, lora_alpha=32),
    )  # fmt: skip
    with Clock() as clock:
        trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    spent = {phase: sum(entry[f"rollout/{phase}_s"] for entry in history) for phase in ("sample", "decode", "reward")}
    return clock, trainer, spent | {"train": clock.wall_s - sum(spent.values())}


def count_passes(args: RPOConfig) -> tuple[int, int]:
    """Passes of one rollout and the training on it, counted and by the formula, the backward passes among them."""
    args.max_steps = 1
    trainer = RPOTrainer(model=policy(), reward_funcs=judge(0), args=args, train_dataset=prompts("train"))
    backwards = []
    trainer.policy.pipeline.transformer.register_full_backward_hook(
        lambda module, grad_input, grad_output: backwards.append(len(grad_output[0]))
    )
    trainer.train()
    window = draw_window(args, random_at(args.seed, 0))
    decided = round(trainer.state.log_history[0]["rollout/decided_rate"] * args.prompts_per_rollout)
    formula = rollout_forwards(args, args.prompts_per_rollout, window.start, decided)
    return trainer.transformer_forwards + sum(backwards), formula.total


def floating_point_operations() -> tuple[float, float]:
    """Of one forward pass for one picture, and of a forward and backward pass with LoRA."""
    tiny = policy()
    trainer = RPOTrainer(
        model=tiny, reward_funcs=judge(0), train_dataset=prompts("train"),
        args=configuration("window", 32, 1, Path("unused")),
    )  # fmt: skip
    latents = tiny.initial_noise(1, 32, 32, torch.Generator())
    conditioning = tiny.encode([{"prompt": "a red circle"}], 32, 32)
    counts = []
    for train in (False, True):
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(train):
            velocity = tiny.velocity(trainer.model, latents, torch.ones(1), conditioning, 3.5)
            if train:
                velocity.sum().backward()
        counts.append(float(counter.get_total_flops()))
    return counts[0], counts[1]


def matmul_ceiling(size: int = 1024, repeats: int = 10) -> float:
    """Operations per second of a matrix product, float32."""
    a, b = torch.randn(2, size, size)
    a @ b
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def compare(recipe: str, pairs: int, steps: int, latency_s: float) -> dict:
    """One recipe, once the naive way and once with the trainer."""
    with tempfile.TemporaryDirectory() as folder:
        args = configuration(recipe, pairs, steps, Path(folder))
        naive, loop = run_naive(args, latency_s, Path(folder))
        clock, trainer, spent = run_trainer(args, latency_s)
    ours, theirs = adapter(trainer.model), adapter(loop.model)
    difference = max((ours[name] - theirs[name]).abs().max().item() for name in ours)
    return {
        "recipe": recipe,
        "pairs": pairs * steps,
        "judge_latency_s": latency_s,
        "naive_pairs_per_s": pairs * steps / naive.wall_s,
        "pairs_per_s": pairs * steps / clock.wall_s,
        "speedup": naive.wall_s / clock.wall_s,
        "speedup_in_cpu_time": naive.cpu_s / clock.cpu_s,
        "cpu_s_per_pair": clock.cpu_s / (pairs * steps),
        "adapter_difference": difference,
        "adapter_largest": max(p.abs().max().item() for p in theirs.values()),
        "shares": {phase: part / clock.wall_s for phase, part in spent.items()},
        "naive_shares": {phase: part / naive.wall_s for phase, part in loop.seconds.items()},
        "passes_per_pair": trainer.transformer_forwards / (pairs * steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--pairs", type=int, default=32, help="pairs for each optimizer step")
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recipes", nargs="+", default=["window", "paper"], choices=sorted(RECIPES))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    print(
        "| recipe | judge | naive, pairs/s | ours, pairs/s | speedup | in CPU time | adapters differ by | sampling | decoding | judge | training |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    runs = []
    for recipe in args.recipes:
        for latency_s in (0.0, 1.0):
            run = compare(recipe, args.pairs, args.steps if latency_s == 0 else 1, latency_s)
            runs.append(run)
            shares = " | ".join(f"{run['shares'][phase]:.0%}" for phase in ("sample", "decode", "reward", "train"))
            print(
                f"| {recipe} | {latency_s:g} s | {run['naive_pairs_per_s']:.2f} | {run['pairs_per_s']:.2f} "
                f"| {run['speedup']:.1f}× | {run['speedup_in_cpu_time']:.1f}× | {run['adapter_difference']:.1e} | {shares} |",
                flush=True,
            )
    with tempfile.TemporaryDirectory() as folder:
        counted, formula = count_passes(configuration(args.recipes[0], args.pairs, 1, Path(folder)))
        forward, forward_backward = floating_point_operations()
        ceiling = matmul_ceiling()
    print(f"\nPasses of one step of {args.pairs} pairs: {counted} counted, {formula} by the formula.")

    figures = {
        "date": date.today().isoformat(),
        "device": f"CPU, {args.threads} threads",
        "torch": torch.__version__,
        "speedup_vs_naive": runs[0]["speedup"],
        "speedup_vs_naive_judge_1s": runs[1]["speedup"],
        "forwards_counted": counted,
        "forwards_formula": formula,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "gflop_forward": forward / 1e9,
        "gflop_forward_backward": forward_backward / 1e9,
        "gflops_matmul": ceiling / 1e9,
        "runs": runs,
    }
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
