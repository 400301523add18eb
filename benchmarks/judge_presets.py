"""
Does RPO learn from judges that answer as published ones do? One short TinyScenes run for each kind of answer, with the
embedded judge answering in that form, beside a run under a rubric whose criteria count alike, which is what it answers.

python benchmarks/judge_presets.py --output outputs/presets
python benchmarks/judge_presets.py --output outputs/presets --kinds rubric label --seeds 0 1

Each run is `arr-trl rpo` with the quickstart's configuration, or that of edits, for `--max_steps` at a constant learning
rate; runs that are already in the output folder are not repeated. Prints a Markdown table and writes presets.json.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import yaml

from arr_trl.tiny_scenes.judge import edit_rubric, zero_shot_rubric


ROOT = Path(__file__).parents[1]
IMAGES, EDITS = "tiny_scenes_rpo.yaml", "tiny_scenes_edit.yaml"
# what answers: the configuration, and the preset that takes the place of its rubric
KINDS = {
    "rubric": (IMAGES, None),
    "label": (IMAGES, "image-expectation"),
    "lines": (IMAGES, "unifiedreward-2-point"),
    "winner": (IMAGES, "unifiedreward-think"),
    "rubric of edits": (EDITS, None),
    "numbers": (EDITS, "three-axis"),
    "tag": (EDITS, "edit-rrm"),
}


def run(kind: str, seed: int, max_steps: int, folder: Path) -> dict:
    """One training run; returns what it measured."""
    config, preset = KINDS[kind]
    if not (folder / "results.json").is_file():
        settings = yaml.safe_load((ROOT / "examples" / "configs" / config).read_text())
        del settings["rubric"]
        folder.mkdir(parents=True, exist_ok=True)
        if preset is None:
            (edit_rubric() if config == EDITS else zero_shot_rubric()).save(folder / "rubric.json")
        settings |= {"rubric": str(folder / "rubric.json")} if preset is None else {"judge_preset": preset}
        settings |= {"max_steps": max_steps, "lr_scheduler_type": "constant", "seed": seed, "output_dir": str(folder)}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        started = time.perf_counter()
        with open(folder / "log.txt", "w") as log:
            command = [sys.executable, "-m", "arr_trl.cli.main", "rpo", "--config", str(folder / "config.yaml")]
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        (folder / "wall_seconds").write_text(f"{time.perf_counter() - started:.1f}")
    results = json.loads((folder / "results.json").read_text())
    return {
        "kind": kind,
        "preset": preset or "–",
        "seed": seed,
        "base": results["base"]["success_all"],
        "trained": results["trained"]["success_all"],
        "prompts": results["prompts"],
        "questions": results["judge_calls"],
        "wall_seconds": float((folder / "wall_seconds").read_text()),
    }


def row(found: dict) -> str:
    points = 100 * (found["trained"] - found["base"])
    return (
        f"| {found['kind']} | {found['preset']} | {found['seed']} | {found['base']:.1%} | {found['trained']:.1%} "
        f"| {points:+.1f} | {found['questions']:,} | {found['wall_seconds']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs and presets.json")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--max_steps", type=int, default=20)
    args = parser.parse_args()

    print("| answer | preset | seed | base | trained | points | questions | wall s |")
    print("|---|---|---|---|---|---|---|---|")
    found = []
    for seed in args.seeds:
        for kind in args.kinds:
            folder = args.output.resolve() / f"{kind.replace(' ', '-')}-{seed}"
            found.append(run(kind, seed, args.max_steps, folder))
            print(row(found[-1]), flush=True)
    (args.output / "presets.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
