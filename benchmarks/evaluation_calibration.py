"""
Whether the intervals of an evaluation hold what they promise, on TinyScenes, where the truth can be read from the pixels.

A large population of pictures is drawn: all held-out captions, many pictures of each, by the base and by an adapter. Its
win rate by the reader is the truth. Then many small evaluations are drawn from it, some captions with two pictures each,
and it is counted how often the interval of the judge's win rate holds the truth, and how often it excludes one half. The
same for the base against itself, with other noise, where the truth is one half by construction.

python benchmarks/evaluation_calibration.py --adapter outputs/quickstart/ARR-tiny-flux --output outputs/calibration
"""

import argparse
import json
from pathlib import Path

import numpy as np

from arr_trl import FluxPolicy, RubricJudge
from arr_trl.evaluation import Evaluator, InferenceSettings, parse_adapters, rate_interval
from arr_trl.judges import JudgeRow
from arr_trl.tiny_scenes import TinyScenesJudge, load_pipeline, prompts, success


ROOT = Path(__file__).parents[1]


def outcomes_of(judge, captions, first, second) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair what the judge says, and what the reader says: 1 when the second is better, .5 when they are level."""
    verdicts = judge.compare([JudgeRow(c, pair) for c, *pair in zip(captions, first, second, strict=True)])
    judged = [0.5 if v.winner is None else float(v.winner) for v in verdicts]
    met = [[sum(check.values()) for check in success(captions, images)] for images in (first, second)]
    read = [0.5 if a == b else float(b > a) for a, b in zip(*met, strict=True)]
    return np.array(judged), np.array(read)


def coverage(judged_PK, truth, count, evaluations, rng) -> dict[str, float]:
    """How many of the small evaluations have an interval that holds `truth`, and one that excludes one half."""
    found = {"clustered": 0, "independent": 0, "excludes_half": 0}
    for _ in range(evaluations):
        drawn = rng.integers(len(judged_PK), size=count)
        images = np.stack([rng.choice(judged_PK.shape[1], 2, replace=False) for _ in drawn])
        values = judged_PK[drawn[:, None], images].ravel()
        low, high = rate_interval(values, np.repeat(np.arange(count), 2))
        found["clustered"] += low <= truth <= high
        found["excludes_half"] += not low <= 0.5 <= high
        low, high = rate_interval(values)
        found["independent"] += low <= truth <= high
    return {name: int(number) for name, number in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/calibration"))
    parser.add_argument("--images", type=int, default=8, help="pictures of each caption in the population")
    parser.add_argument("--prompts", type=int, default=60, help="captions of a small evaluation")
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rows = list(prompts("test"))
    judge = RubricJudge(str(ROOT / "examples/rubrics/tiny_scenes.json"), TinyScenesJudge())
    # twice as many pictures as are needed against the adapter: the base is compared with itself on other noise
    settings = InferenceSettings(32, 32, 8, 3.5, 2 * args.images)
    policy = FluxPolicy(load_pipeline(), max_sequence_length=12)
    adapters = parse_adapters([args.adapter])
    evaluator = Evaluator(policy, adapters, rows, args.output, settings, judge, batch_size=120)
    images = {model: evaluator.folder.images(model, range(len(rows)), rows) for model in ("base", adapters[0].name)}
    rng = np.random.default_rng(args.seed)
    captions = [row["prompt"] for row in rows for _ in range(args.images)]

    def part(model: str, start: int) -> list:
        return [
            images[model][p * 2 * args.images + k] for p in range(len(rows)) for k in range(start, start + args.images)
        ]

    report = {"prompts": args.prompts, "evaluations": args.evaluations}
    for name, second in (
        ("base_against_trained", (adapters[0].name, 0)),
        ("base_against_base", ("base", args.images)),
    ):
        judged, read = outcomes_of(judge, captions, part("base", 0), part(*second))
        truth = 0.5 if name == "base_against_base" else float(read.mean())
        judged_PK = judged.reshape(len(rows), args.images)
        report[name] = {
            "truth_of_the_reader": truth,
            "population_win_rate": float(judged.mean()),
            **coverage(judged_PK, truth, args.prompts, args.evaluations, rng),
        }
    (args.output / "calibration.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
