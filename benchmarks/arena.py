"""
Which objective learns best from a judge? Every one on TinyScenes, from the same base, by the same judge, for the same number
of pictures, from several seeds.

```
python benchmarks/arena.py --output outputs/arena                                  # all objectives, three seeds: hours
python benchmarks/arena.py --output outputs/arena --only "nft" --seeds 0           # some of them
python benchmarks/arena.py --output outputs/arena --judge noisy --candidates 4     # a judge that draws 10% of its answers
python benchmarks/arena.py --output outputs/arena --task edit --candidates 4
python benchmarks/arena.py --output outputs/arena --table                          # what was run so far
python benchmarks/arena.py --output outputs/arena --picture arena.png "nft,n=4" "rpo,n=2"   # needs matplotlib
```

A cell is a command of `arr-trl` with the settings of `COMMON`, those of its objective and its number of candidates for each
prompt. What is in the output folder is not run again. Success is read from the pixels of the held-out captions or edits;
passes are forwards and backwards of the transformer in training; CPU seconds are of training alone, with one thread. Distance
and diversity are of two pictures for each of 120 captions.
"""

import argparse
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any


ROOT = Path(__file__).parents[1]
PICTURES = 5120  # of every run, in steps of 32 where nothing else is said

COMMON = {
    "eval_dataset_split": "test",
    "judge_model": "tiny_scenes",
    "height": "32",
    "width": "32",
    "num_inference_steps": "8",
    "eval_num_inference_steps": "8",
    "gradient_accumulation_steps": "1",
    "lr_scheduler_type": "linear",
    "max_steps": "160",
    "beta": "0",
    "logging_steps": "10",
    "watch_every": "1",
    "save_strategy": "no",
    "per_device_eval_batch_size": "60",
    "gradient_checkpointing": "false",
    "use_cpu": "true",
    "bf16": "false",
    "report_to": "none",
    "disable_tqdm": "true",
}
TASKS = {
    "images": {
        "model_name_or_path": "tiny_scenes",
        "dataset_name": "tiny_scenes",
        "eval_funcs": "arr_trl.tiny_scenes.success",
        "rubric": str(ROOT / "examples/rubrics/tiny_scenes.json"),
        "guidance_scale": "3.5",
        "max_sequence_length": "12",
    },
    "edit": {
        "model_name_or_path": "tiny_scenes_edit",
        "dataset_name": "tiny_scenes_edit",
        "eval_funcs": "arr_trl.tiny_scenes.edit_success",
        "rubric": str(ROOT / "examples/rubrics/tiny_scenes_edit.json"),
        "guidance_scale": "1.0",
        "condition_size": "32",
    },
}
JUDGES = {"clean": {}, "noisy": {"noise": 0.1}, "biased": {"position_bias": 0.3}}
WINDOW = {"sde_type": "cps", "noise_level": "0.8", "sde_window_size": "1", "sde_window_range": "0 3"}
FORWARD = {"num_train_points": "2"}
# Of each objective: its command, and what it needs beside `COMMON`. The rate is the best of 6e-4, 1e-3 and 1.5e-3 for seed 0.
OBJECTIVES: dict[str, tuple[str, dict[str, str]]] = {
    "rpo": ("rpo", {**WINDOW, "center_rewards": "true", "learning_rate": "6e-4"}),
    "rpo_guard": ("rpo", {**WINDOW, "center_rewards": "true", "loss_type": "guard", "learning_rate": "6e-4"}),
    "rpo_separate_noise": (
        "rpo",
        {**WINDOW, "center_rewards": "true", "share_initial_noise": "false", "learning_rate": "6e-4"},
    ),
    "rpo_not_centered": ("rpo", {**WINDOW, "learning_rate": "6e-4"}),
    "rpo_flow_noise": (
        "rpo",
        {**WINDOW, "center_rewards": "true", "sde_type": "flow", "noise_level": "0.9", "learning_rate": "6e-4"},
    ),
    "grpo": ("grpo", {**WINDOW, "learning_rate": "6e-4"}),
    "grpo_guard": ("grpo", {**WINDOW, "loss_type": "guard", "learning_rate": "6e-4"}),
    "d3po": ("grpo", {**WINDOW, "loss_type": "d3po", "epsilon": "0.1", "learning_rate": "6e-4"}),
    "nft": ("nft", {**FORWARD, "loss_type": "nft", "learning_rate": "1e-3"}),
    "awm": ("nft", {**FORWARD, "loss_type": "awm", "learning_rate": "1e-3"}),
    "dgpo": ("nft", {**FORWARD, "loss_type": "dgpo", "learning_rate": "1e-3"}),
    "crd": ("nft", {**FORWARD, "loss_type": "crd", "learning_rate": "1e-3"}),
    "dpo": ("nft", {**FORWARD, "loss_type": "dpo", "learning_rate": "1e-3"}),
    "fdfo": ("nft", {**FORWARD, "learning_rate": "1e-3"}),  # benchmarks/fdfo.py
}


def settings_of(objective: str, n: int, task: str, extra: dict[str, str]) -> tuple[str, dict[str, str], int]:
    """The command of a cell, its options, and the pictures of an optimizer step."""
    command, own = OBJECTIVES[objective]
    settings = {**COMMON, **TASKS[task], **own, "num_generations": str(n), **extra}
    pictures = int(settings.pop("pictures", PICTURES // int(settings["max_steps"])))
    settings["per_device_train_batch_size"] = str(pictures * int(settings.get("num_train_points", "1")))
    if command == "grpo":
        settings["steps_per_generation"] = "1"
    return command, settings, pictures


def rewards_with(faults: dict[str, float]) -> Callable[..., dict[str, Any]]:
    """What a command rewards candidates with, its judge replaced by one with these faults."""
    from arr_trl import RubricJudge
    from arr_trl.cli.train_arguments import build_rewards
    from arr_trl.tiny_scenes import TinyScenesJudge, edit_success, success

    def drawn(prompts, completions, **columns):
        return [float(all(found.values())) for found in success(prompts, completions, **columns)]

    def edited(prompts, completions, **columns):
        return [float(all(found.values())) for found in edit_success(prompts, completions, **columns)]

    drawn.__name__ = edited.__name__ = "truth"  # read from the pixels, never rewarded

    def load(script_args, training_args):
        rewards = build_rewards(script_args, training_args)
        rewards["watch_funcs"] = [edited if script_args.model_name_or_path == "tiny_scenes_edit" else drawn]
        if faults:
            judge = RubricJudge(rubric=script_args.rubric[0], model=TinyScenesJudge(**faults))
            rewards["reward_funcs"][0] = judge
        return rewards

    return load


def distance_and_diversity(adapter: Path, task: str, output: Path) -> dict[str, float]:
    """How far pictures are from the base's of the same noise, and from each other, beside the base's."""
    from arr_trl.evaluation import Evaluator, InferenceSettings, parse_adapters
    from arr_trl.policies import load_policy
    from arr_trl.tiny_scenes import BASE_MODEL, EDIT_BASE_MODEL, edit_prompts, edit_success, prompts, success

    edit, settings = task == "edit", TASKS[task]
    policy = load_policy(
        str(EDIT_BASE_MODEL if edit else BASE_MODEL),
        {"height": 32, "width": 32},
        {"condition_size": 32} if edit else {"max_sequence_length": 12},
    )
    rows = list((edit_prompts if edit else prompts)("test").select(range(120)))
    drawn = InferenceSettings(
        32, 32, num_images_per_prompt=2, num_inference_steps=8, guidance_scale=float(settings["guidance_scale"])
    )
    evaluation, _, _ = Evaluator(
        policy,
        parse_adapters([str(adapter)]),
        rows,
        output,
        drawn,
        eval_funcs=[edit_success if edit else success],
        batch_size=60,
    ).run()
    base, trained = evaluation.models.values()
    return {
        "drift": trained["drift"],
        "diversity": trained["pixel_diversity"],
        "base_diversity": base["pixel_diversity"],
    }


def run(objective: str, n: int, seed: int, judge: str, task: str, extra: dict[str, str], folder: Path) -> dict:
    """One training, and what it measured."""
    from arr_trl.cli.command import command_of
    from arr_trl.cli.train import train

    measured = folder / "arena.json"
    if measured.is_file():
        return json.loads(measured.read_text())
    name, settings, pictures = settings_of(objective, n, task, extra)
    settings |= {"seed": str(seed), "output_dir": str(folder)}
    flags = [part for name, value in settings.items() for part in (f"--{name}", *value.split())]
    command = replace(command_of(name), load_rewards=rewards_with(JUDGES[judge]))
    if objective == "fdfo":
        command = replace(command, trainer="fdfo.FDFOTrainer")
    began = time.process_time()
    status = train(flags, command)
    if status != 0:
        raise SystemExit(f"{folder.name} ended with status {status}.")
    seconds = time.process_time() - began
    results = json.loads((folder / "results.json").read_text())
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    points = int(settings.get("num_train_points", "1"))
    total = pictures * int(settings["max_steps"])
    found = {
        "cell": folder.parent.name,
        "objective": objective,
        "candidates": n,
        "judge": judge,
        "task": task,
        "seed": seed,
        "extra": extra,
        "success": results["trained"]["success_all"],
        "criteria": results["trained"]["success"],
        "win_rate": results["win_rate"],
        "pictures": total,
        "questions": results["judge_calls"] - 2 * results["prompts"],
        # the backward passes: what is masked has none
        "forwards": results["transformer_forwards"],
        "most_passes": results["transformer_forwards"] + total * points,
        "kl": next((entry["policy/kl"] for entry in reversed(history) if "policy/kl" in entry), None),
        "truth": [(entry["step"], entry["watch/truth/mean"]) for entry in history if "watch/truth/mean" in entry],
        "decided": [entry["rollout/decided_rate"] for entry in history if "rollout/decided_rate" in entry],
        "train_seconds": results["train_seconds"],
        "cpu_seconds": seconds,
        **distance_and_diversity(folder / results["adapter"], task, folder / "evaluation"),
    }
    measured.write_text(json.dumps(found, indent=2) + "\n")
    return found


def cell_name(objective: str, n: int, judge: str, task: str, extra: dict[str, str]) -> str:
    settings = "".join(f",{name}={value}" for name, value in sorted(extra.items()))
    others = [name for name in (judge, task) if name not in ("clean", "images")]
    return ",".join([objective, f"n={n}", *others]).replace("/", "-") + settings.replace(" ", "_")


def table(folder: Path) -> str:
    """What was run, the best first."""
    cells = defaultdict(list)
    for file in sorted(folder.glob("*/*/arena.json")):
        found = json.loads(file.read_text())
        cells[found["cell"]].append(found)
    lines = [
        "| cell | success | each seed | decided at the end | distance | drift | diversity | questions | forwards "
        "| with backward, at most | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]

    def mean(runs: list[dict], name: str) -> float:
        return fmean(run[name] for run in runs if run[name] is not None)

    for name, runs in sorted(cells.items(), key=lambda cell: -mean(cell[1], "success")):
        each = ", ".join(f"{run['success']:.1%}" for run in runs)
        decided = fmean(run["decided"][-1] for run in runs)
        kl = mean(runs, "kl") if any(run["kl"] is not None for run in runs) else float("nan")
        lines.append(
            f"| {name} | {mean(runs, 'success'):.1%} | {each} | {decided:.0%} | {kl:.2g} | {mean(runs, 'drift'):.3f} "
            f"| {mean(runs, 'diversity'):.3f} | {mean(runs, 'questions'):,.0f} | {mean(runs, 'forwards'):,.0f} | {mean(runs, 'most_passes'):,.0f} "
            f"| {mean(runs, 'cpu_seconds'):.0f} |"
        )
    return "\n".join(lines)


def draw(folder: Path, cells: list[str], file: Path) -> None:
    """The truth about training's own candidates against passes: a line for each cell, and a band from its least seed to its best."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for cell in cells:
        runs = [json.loads(path.read_text()) for path in sorted((folder / cell).glob("*/arena.json"))]
        if not runs:
            raise SystemExit(f"There is no run of {cell} in {folder}.")
        last = runs[0]["truth"][-1][0]
        passes = [step / last * runs[0]["most_passes"] for step, _ in runs[0]["truth"]]
        curves = list(zip(*([share for _, share in run["truth"]] for run in runs), strict=True))
        (line,) = axes.plot(passes, [100 * fmean(at) for at in curves], label=f"{cell} ({len(runs)} seeds)")
        lows, highs = ([100 * choose(at) for at in curves] for choose in (min, max))
        axes.fill_between(passes, lows, highs, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="passes of the transformer, forward and backward", ylabel="candidates that meet all criteria, %")
    axes.set_ylim(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--only", default="", help="pattern for the names of objectives")
    parser.add_argument("--candidates", nargs="+", type=int, default=[2, 4, 8, 16])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--judge", choices=list(JUDGES), default="clean")
    parser.add_argument("--task", choices=list(TASKS), default="images")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further settings of all cells")
    parser.add_argument("--picture", nargs="+", metavar=("FILE", "CELL"), help="draw cells that were run")
    parser.add_argument("--table", action="store_true", help="only show what was run")
    args = parser.parse_args()
    if args.picture:
        return draw(args.output, args.picture[1:], Path(args.picture[0]))
    if not args.table:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        extra = dict(setting.split("=", 1) for setting in args.set)
        for objective in OBJECTIVES:
            for n in args.candidates:
                if not re.fullmatch(args.only or ".*", objective):
                    continue
                for seed in args.seeds:
                    cell = cell_name(objective, n, args.judge, args.task, extra)
                    folder = args.output.resolve() / cell / str(seed)
                    found = run(objective, n, seed, args.judge, args.task, extra, folder)
                    print(f"{found['cell']} {seed}: {found['success']:.1%}, {found['cpu_seconds']:.0f} s", flush=True)
    print(table(args.output))


if __name__ == "__main__":
    main()
