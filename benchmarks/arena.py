"""
Which objective learns best from a judge? Every one on TinyScenes, from the same base, by the same judge, for the same number
of pictures, from several seeds.

```
python benchmarks/arena.py --output outputs/arena                                  # all cells, three seeds: hours
python benchmarks/arena.py --output outputs/arena --only "nft" --seeds 0           # some of them
python benchmarks/arena.py --output outputs/arena --table                          # what was run so far
```

A cell is a command of `arr-trl` with the settings of `COMMON`, those of its objective and its number of candidates for each
prompt. What is in the output folder is not run again. Success is read from the pixels of 240 held-out captions; passes are
forwards and backwards of the transformer in training; CPU seconds are of training alone, with one thread.
"""

import argparse
import json
import os
import re
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean


ROOT = Path(__file__).parents[1]
PICTURES = 128  # of each optimizer step

COMMON = {
    "model_name_or_path": "tiny_scenes",
    "dataset_name": "tiny_scenes",
    "max_sequence_length": "12",
    "eval_dataset_split": "test",
    "eval_funcs": "arr_trl.tiny_scenes.success",
    "rubric": str(ROOT / "examples/rubrics/tiny_scenes.json"),
    "judge_model": "tiny_scenes",
    "height": "32",
    "width": "32",
    "num_inference_steps": "8",
    "guidance_scale": "3.5",
    "eval_num_inference_steps": "8",
    "gradient_accumulation_steps": "1",
    "learning_rate": "6e-4",
    "lr_scheduler_type": "constant",
    "max_steps": "40",
    "beta": "0",
    "logging_steps": "10",
    "save_strategy": "no",
    "per_device_eval_batch_size": "60",
    "gradient_checkpointing": "false",
    "use_cpu": "true",
    "bf16": "false",
    "report_to": "none",
    "disable_tqdm": "true",
}
WINDOW = {"sde_type": "cps", "noise_level": "0.8", "sde_window_size": "1", "sde_window_range": "0 3"}
# Of each objective: its command, and what it needs beside `COMMON`.
OBJECTIVES: dict[str, tuple[str, dict[str, str]]] = {
    "rpo": ("rpo", {**WINDOW, "center_rewards": "true"}),
    "rpo_guard": ("rpo", {**WINDOW, "center_rewards": "true", "loss_type": "guard"}),
    "rpo_separate_noise": ("rpo", {**WINDOW, "center_rewards": "true", "share_initial_noise": "false"}),
    "rpo_not_centered": ("rpo", WINDOW),
    "rpo_flow_noise": ("rpo", {**WINDOW, "center_rewards": "true", "sde_type": "flow", "noise_level": "0.9"}),
    "grpo": ("grpo", WINDOW),
    "grpo_guard": ("grpo", {**WINDOW, "loss_type": "guard"}),
    "d3po": ("grpo", {**WINDOW, "loss_type": "d3po", "epsilon": "0.1"}),
    "nft": ("nft", {"loss_type": "nft"}),
    "awm": ("nft", {"loss_type": "awm"}),
    "dgpo": ("nft", {"loss_type": "dgpo"}),
    "crd": ("nft", {"loss_type": "crd"}),
    "dpo": ("nft", {"loss_type": "dpo"}),
}


def settings_of(objective: str, n: int, extra: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The command of a cell and its options."""
    command, own = OBJECTIVES[objective]
    settings = {**COMMON, **own, "num_generations": str(n), **extra}
    points = int(settings.setdefault("num_train_points", "1")) if command == "nft" else 1
    pictures = (
        PICTURES * 40 // int(settings["max_steps"]) if "pictures" not in extra else int(settings.pop("pictures"))
    )
    settings["per_device_train_batch_size"] = str(pictures * points)
    if command == "grpo":
        settings["steps_per_generation"] = "1"
    return command, settings


def run(objective: str, n: int, seed: int, extra: dict[str, str], folder: Path) -> dict:
    """One training, and what it measured."""
    from arr_trl.cli.main import main

    measured = folder / "arena.json"
    if measured.is_file():
        return json.loads(measured.read_text())
    command, settings = settings_of(objective, n, extra)
    settings |= {"seed": str(seed), "output_dir": str(folder)}
    flags = [part for name, value in settings.items() for part in (f"--{name}", *value.split())]
    began = time.process_time()
    status = main([command, *flags])
    if status != 0:
        raise SystemExit(f"{folder.name} ended with status {status}.")
    results = json.loads((folder / "results.json").read_text())
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    points = int(settings.get("num_train_points", "1"))
    pictures = 40 * PICTURES if "pictures" not in extra else int(extra["pictures"]) * int(settings["max_steps"])
    found = {
        "cell": folder.parent.name,
        "objective": objective,
        "candidates": n,
        "seed": seed,
        "extra": extra,
        "success": results["trained"]["success_all"],
        "criteria": results["trained"]["success"],
        "win_rate": results["win_rate"],
        "pictures": pictures,
        "questions": results["judge_calls"] - 2 * results["prompts"],
        # the backward passes: what is masked has none
        "forwards": results["transformer_forwards"],
        "most_passes": results["transformer_forwards"] + pictures * points,
        "kl": next((entry["policy/kl"] for entry in reversed(history) if "policy/kl" in entry), None),
        "decided": [entry["rollout/decided_rate"] for entry in history if "rollout/decided_rate" in entry],
        "train_seconds": results["train_seconds"],
        "cpu_seconds": time.process_time() - began,
    }
    measured.write_text(json.dumps(found, indent=2) + "\n")
    return found


def cell_name(objective: str, n: int, extra: dict[str, str]) -> str:
    settings = "".join(f",{name}={value}" for name, value in sorted(extra.items()))
    return f"{objective},n={n}{settings}".replace("/", "-").replace(" ", "_")


def table(folder: Path) -> str:
    """What was run, the best first."""
    cells = defaultdict(list)
    for file in sorted(folder.glob("*/*/arena.json")):
        found = json.loads(file.read_text())
        cells[found["cell"]].append(found)
    lines = [
        "| cell | seeds | success | each | decided at the end | KL | questions | forwards | with backward, at most | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]

    def mean(runs: list[dict], name: str) -> float:
        return fmean(run[name] for run in runs if run[name] is not None)

    for name, runs in sorted(cells.items(), key=lambda cell: -mean(cell[1], "success")):
        each = ", ".join(f"{run['success']:.1%}" for run in runs)
        decided = fmean(run["decided"][-1] for run in runs)
        kl = mean(runs, "kl") if any(run["kl"] is not None for run in runs) else float("nan")
        lines.append(
            f"| {name} | {len(runs)} | {mean(runs, 'success'):.1%} | {each} | {decided:.0%} | {kl:.2g} "
            f"| {mean(runs, 'questions'):,.0f} | {mean(runs, 'forwards'):,.0f} | {mean(runs, 'most_passes'):,.0f} "
            f"| {mean(runs, 'cpu_seconds'):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--only", default="", help="pattern for the names of objectives")
    parser.add_argument("--candidates", nargs="+", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further settings of all cells")
    parser.add_argument("--table", action="store_true", help="only show what was run")
    args = parser.parse_args()
    if not args.table:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        extra = dict(setting.split("=", 1) for setting in args.set)
        for objective in OBJECTIVES:
            for n in args.candidates:
                if not re.fullmatch(args.only or ".*", objective):
                    continue
                for seed in args.seeds:
                    found = run(
                        objective, n, seed, extra, args.output.resolve() / cell_name(objective, n, extra) / str(seed)
                    )
                    print(f"{found['cell']} {seed}: {found['success']:.1%}, {found['cpu_seconds']:.0f} s", flush=True)
    print(table(args.output))


if __name__ == "__main__":
    main()
