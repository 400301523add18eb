"""
What a judge with position bias costs the training, and what asking in both orders is worth.

python benchmarks/biased_judge_learning.py --output /tmp/biased

Trains the quickstart with a clean judge, and with one that prefers the first image in 30% of its answers and draws
another 10% at random, once asked in both orders and once in a fixed one. Success is read from the pixels, so the judge
that trained has no say in it. Prints a Markdown table and writes biased_judge_learning.json.
"""

import argparse
import json
from pathlib import Path

from trl import TrlParser

from arr_trl import RPOConfig, RPOTrainer, RubricJudge
from arr_trl.cli.rpo import RPOScriptArguments, lora_config
from arr_trl.tiny_scenes import BASE_MODEL, TinyScenesJudge, prompts, success


ROOT = Path(__file__).parents[1]
RUNS = {
    "clean, both orders": ({}, "both"),
    "biased, both orders": ({"position_bias": 0.3, "noise": 0.1}, "both"),
    "biased, fixed order": ({"position_bias": 0.3, "noise": 0.1}, "fixed"),
}


def train(faults: dict[str, float], order: str, output_dir: Path, seed: int) -> dict:
    script_args, args = TrlParser((RPOScriptArguments, RPOConfig)).parse_args_and_config(
        [
            "--config", str(ROOT / "examples/configs/tiny_scenes_rpo.yaml"), "--output_dir", str(output_dir),
            "--seed", str(seed),
        ]
    )  # fmt: skip
    judge = RubricJudge(rubric=ROOT / script_args.rubric[0], model=TinyScenesJudge(**faults), order=order)
    trainer = RPOTrainer(
        model=str(BASE_MODEL),
        reward_funcs=judge,
        args=args,
        train_dataset=prompts("train"),
        eval_dataset=prompts("test"),
        eval_funcs=success,
        peft_config=lora_config(script_args, args),
    )
    trainer.train()
    trainer.evaluate()
    results = trainer.evaluation
    return {
        "base": results.base.success_all,
        "trained": results.trained.success_all,
        "order_consistency": results.order_consistency,
        "tie_rate": results.tie_rate,
        "train_seconds": results.train_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS))
    args = parser.parse_args()
    results = {name: train(*RUNS[name], args.output / name.replace(", ", "-"), args.seed) for name in args.runs}
    print("| judge | base | trained | points | share of the clean judge's gain | seconds |")
    print("|---|---|---|---|---|---|")
    clean = results.get("clean, both orders")
    for name, r in results.items():
        gain = r["trained"] - r["base"]
        share = f"{gain / (clean['trained'] - clean['base']):.0%}" if clean else "–"
        print(
            f"| {name} | {r['base']:.1%} | {r['trained']:.1%} | {100 * gain:+.1f} | {share} | {r['train_seconds']:.0f} |"
        )
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "biased_judge_learning.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
