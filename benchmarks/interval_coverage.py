"""
How often intervals of a rate hold the truth, near its ends and in the middle: those of `rate_interval`, and those of plain
resampling of prompts, whose interval of thirty wins out of thirty is from 100% to 100%.

python benchmarks/interval_coverage.py
"""

import argparse

import numpy as np

from arr_trl.intervals import rate_interval, resampled_sums


CASES = {
    "one picture of each prompt": lambda rng, truth, prompts: rng.random((prompts, 1)) < truth,
    "three pictures, prompts differ": lambda rng, truth, prompts: (
        rng.random((prompts, 3)) < rng.beta(2 * truth, 2 * (1 - truth), size=(prompts, 1))
    ),
    "four pictures, always alike": lambda rng, truth, prompts: np.repeat(rng.random((prompts, 1)) < truth, 4, axis=1),
    "one picture, 60% ties": lambda rng, truth, prompts: np.where(
        rng.random((prompts, 1)) < 0.6, 0.5, rng.random((prompts, 1)) < (truth - 0.3) / 0.4
    ),
}


def by_resampling(outcomes_PN: np.ndarray) -> tuple[float, float]:
    parts = np.stack([outcomes_PN.sum(1), np.full(len(outcomes_PN), outcomes_PN.shape[1])], axis=1)
    above, below = resampled_sums(parts, 1000).T
    return tuple(np.percentile(above / below, [2.5, 97.5]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=1000, help="Evaluations of each kind.")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    for name, draw in CASES.items():
        for prompts in (12, 30, 120):
            for truth in (0.5, 0.68) if "ties" in name else (0.5, 0.9, 0.97):
                held = np.zeros(2)
                for _ in range(args.evaluations):
                    outcomes = draw(rng, truth, prompts).astype(float)
                    of_prompt = np.repeat(np.arange(prompts), outcomes.shape[1])
                    intervals = rate_interval(outcomes.ravel(), of_prompt), by_resampling(outcomes)
                    held += [low - 1e-9 <= truth <= high + 1e-9 for low, high in intervals]
                ours, resampled = held / args.evaluations
                print(f"| {name} | {prompts} | {truth:.0%} | {ours:.1%} | {resampled:.1%} |", flush=True)


if __name__ == "__main__":
    main()
