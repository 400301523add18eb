"""
Whether Auto-Rubric finds the rule behind labels, and what it does with labels that are wrong.

TinyScenes pairs are labelled by hidden rules that care for some criteria more than for others. The embedded chat model
knows none of them: it writes criteria from what it sees to differ between two pictures, and verifies them from pixels
without the label. Measured on pairs of other captions, all labelled right, with the rubric and without one.

```
python benchmarks/autorubric.py --seeds 0 1 2
```
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from arr_trl.autorubric import AutoRubric, AutoRubricConfig
from arr_trl.autorubric.holdout import agreement, winners_of, with_rubric, without_rubric
from arr_trl.judges import RubricJudge
from arr_trl.tiny_scenes import TinyScenesJudge, preferences


# what each criterion is worth to whoever labels; the order decides, since each is worth more than all that follow
RULES = {
    "relation, then shapes": {"relation": 2.0, "shapes": 1.0},
    "shapes, then relation": {"shapes": 2.0, "relation": 1.0},
    "relation, then colors": {"relation": 2.0, "colors": 1.0},
    "count, then relation": {"count": 2.0, "relation": 1.0},
    "count, then shapes, then relation": {"count": 4.0, "shapes": 2.0, "relation": 1.0},
}


def measured(rule: dict[str, float], wrong_labels: float, pairs: int, held_out: int, seed: int, faults: dict) -> dict:
    """One run: accuracies on the held-out pairs, and what became of the wrong labels."""
    model = TinyScenesJudge(**faults, seed=seed)
    judge = RubricJudge("auto", model)
    labelled = preferences(pairs, rule, wrong_labels, seed=seed)
    report = AutoRubric(model, judge, AutoRubricConfig(holdout=0, seed=seed)).write(labelled, name="rule")
    others = preferences(held_out, rule, split="test", seed=1000 + seed)
    wrong = [outcome for outcome in report.outcomes if labelled[outcome.row].category == "wrong label"]
    right = [outcome for outcome in report.outcomes if labelled[outcome.row].category is None]
    return {
        "with": agreement(winners_of(with_rubric(others, report.rubric, judge)[0]), others).accuracy,
        "without": agreement(without_rubric(others, judge)[0], others).accuracy,
        "wrong": len(wrong),
        "wrong_dropped": sum(not outcome.passed for outcome in wrong),
        "wrong_doubtful": sum(outcome.doubtful for outcome in wrong),
        "right": len(right),
        "right_dropped": sum(not outcome.passed for outcome in right),
        "right_doubtful": sum(outcome.doubtful for outcome in right),
        "criteria": [f"{c.weight:.2f} {c.text}" for c in report.rubric.criteria],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100, help="Pairs that the rubric is written from.")
    parser.add_argument("--held_out", type=int, default=300, help="Pairs of other captions to measure on.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--noise", type=float, default=0.0, help="Share of the model's verdicts drawn at random.")
    parser.add_argument("--position_bias", type=float, default=0.0, help="Share of its verdicts for the first image.")
    parser.add_argument("--output", help="JSON file for all figures.")
    args = parser.parse_args()

    table = Table(title=f"{args.pairs} pairs, {len(args.seeds)} seeds, {args.held_out} held-out pairs each")
    for heading in (
        "hidden rule", "wrong labels", "without a rubric", "with the rubric", "lowest", "wrong dropped",
        "wrong doubtful", "right dropped", "right doubtful",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "hidden rule" else "right")
    everything = []
    faults = {"noise": args.noise, "position_bias": args.position_bias}
    for wrong_labels in (0.0, 0.1):
        for name, rule in RULES.items():
            runs = [measured(rule, wrong_labels, args.pairs, args.held_out, seed, faults) for seed in args.seeds]
            everything.append({"rule": name, "wrong_labels": wrong_labels, "runs": runs})
            total = {key: sum(run[key] for run in runs) for key in runs[0] if key != "criteria"}
            table.add_row(
                name,
                f"{wrong_labels:.0%}",
                f"{np.mean([run['without'] for run in runs]):.1%}",
                f"{np.mean([run['with'] for run in runs]):.1%}",
                f"{min(run['with'] for run in runs):.1%}",
                *(f"{total[f'wrong_{what}']} of {total['wrong']}" for what in ("dropped", "doubtful")),
                *(f"{total[f'right_{what}']} of {total['right']}" for what in ("dropped", "doubtful")),
            )
    Console(width=160).print(table, highlight=False)
    if args.output is not None:
        Path(args.output).write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
