"""
Does RPO learn? Trains on TinyScenes from several seeds and reports success on the held-out prompts.

python benchmarks/learning.py --output /tmp/learning                          # the quickstart, three seeds
python benchmarks/learning.py --output /tmp/learning --variants short paper --seeds 0
python benchmarks/learning.py --output /tmp/learning-edit --config examples/configs/tiny_scenes_edit.yaml

Each run is `arr-trl rpo --config CONFIG` with the overrides of its variant; runs that are already in the output folder
are not repeated. Prints a Markdown table and writes learning.json beside the runs.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path


CONFIG = Path(__file__).parents[1] / "examples" / "configs" / "tiny_scenes_rpo.yaml"

# What each variant changes in the quickstart's configuration. All but the first are short runs at a constant learning
# rate, each with one decision taken differently, and the paper's decisions all together.
SHORT = {"max_steps": "40", "lr_scheduler_type": "constant"}
PAPER = {
    "sde_type": "dance",
    "noise_level": "0.3",
    "sde_window_size": "7",
    "sde_window_range": "0 7",
    "share_initial_noise": "false",
    "center_rewards": "false",
    "beta": "0.01",
    "per_device_train_batch_size": "448",
}
VARIANTS: dict[str, dict[str, str]] = {
    "quickstart": {},
    "short": SHORT,
    "four_candidates": {**SHORT, "num_generations": "4"},
    "flow_noise": {**SHORT, "sde_type": "flow", "noise_level": "0.9"},
    "dance_noise": {**SHORT, "sde_type": "dance", "noise_level": "0.3"},
    "two_step_window": {**SHORT, "sde_window_size": "2", "sde_window_range": "0 4"},
    "late_window": {**SHORT, "sde_window_range": "3 6"},
    "separate_noise": {**SHORT, "share_initial_noise": "false"},
    "not_centered": {**SHORT, "center_rewards": "false"},
    "sixteen_pairs": {**SHORT, "per_device_train_batch_size": "32"},
    "lr_5e-5": {**SHORT, "learning_rate": "5e-5"},
    "lr_2e-3": {**SHORT, "learning_rate": "2e-3"},
    "kl_0.01": {**SHORT, "beta": "0.01"},
    "window_with_kl": {**SHORT, "sde_window_size": "2", "sde_window_range": "0 4", "beta": "0.001"},
    "window_with_kl_on_a_quarter": {
        **SHORT,
        "sde_window_size": "2",
        "sde_window_range": "0 4",
        "beta": "0.001",
        "kl_fraction": "0.25",
    },
    "pipelined_judge": {**SHORT, "pipelined_judge": "true"},
    "paper": {**SHORT, **PAPER, "learning_rate": "5e-5"},
    "paper_lr_6e-4": {**SHORT, **PAPER},
}


def run(config: Path, variant: str, seed: int, folder: Path) -> dict:
    """One training run; returns what it measured."""
    if not (folder / "results.json").is_file():
        overrides = {"output_dir": str(folder), "seed": str(seed), **VARIANTS[variant]}
        flags = [part for name, value in overrides.items() for part in (f"--{name}", *value.split())]
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with open(folder / "log.txt", "w") as log:
            subprocess.run(
                [sys.executable, "-m", "arr_trl.cli.main", "rpo", "--config", str(config), *flags],
                check=True,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=CONFIG.parents[2],
            )
        (folder / "wall_seconds").write_text(f"{time.perf_counter() - started:.1f}")
    results = json.loads((folder / "results.json").read_text())
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    kl = [entry["policy/kl"] for entry in history if "policy/kl" in entry]
    return {
        "variant": variant,
        "seed": seed,
        "prompts": results["prompts"],
        "base": results["base"]["success_all"],
        "trained": results["trained"]["success_all"],
        "success": results["trained"]["success"],
        "win_rate": results["win_rate"],
        "win_rate_ci": results["win_rate_ci"],
        "kl": kl[-1] if kl else None,
        "train_seconds": results["train_seconds"],
        "wall_seconds": float((folder / "wall_seconds").read_text()),
        # every question shows two images
        "images_judged": 2 * results["judge_calls"],
        "transformer_forwards": results["transformer_forwards"],
    }


def row(result: dict) -> str:
    low, high = result["win_rate_ci"]
    kl = "–" if result["kl"] is None else f"{result['kl']:.2e}"
    return (
        f"| {result['variant']} | {result['seed']} | {result['base']:.1%} | {result['trained']:.1%} "
        f"| {100 * (result['trained'] - result['base']):+.1f} | {result['win_rate']:.1%} [{low:.1%}, {high:.1%}] "
        f"| {kl} | {result['wall_seconds']:.0f} | {result['images_judged']:,} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs and learning.json")
    parser.add_argument("--config", type=Path, default=CONFIG, help="the configuration that is run")
    parser.add_argument("--variants", nargs="+", default=["quickstart"], choices=sorted(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()

    print("| variant | seed | base | trained | points | win rate [95%] | last KL | wall s | images judged |")
    print("|---|---|---|---|---|---|---|---|---|")
    results = []
    for variant in args.variants:
        for seed in args.seeds:
            results.append(run(args.config.resolve(), variant, seed, args.output.resolve() / f"{variant}-{seed}"))
            print(row(results[-1]), flush=True)
    (args.output / "learning.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
