"""
Whether position bias and noise of a judge are seen, and what asking in both orders is worth.

TinyScenes pairs with a known better picture, judged by an embedded judge that prefers the first image in a share of its
answers and draws another share at random. The truth of `position_bias` (share of answers for the first image, minus .5)
is half the share of answers that look at nothing but the position.

```
python benchmarks/judge_bias.py --pairs 2000 --position_bias 0.3 --noise 0.1
```
"""

import argparse

import numpy as np

from arr_trl.data.preferences import Preference
from arr_trl.evaluation.judge_eval import evaluate_judge, print_summary
from arr_trl.judges import JudgeRow, RubricJudge
from arr_trl.tiny_scenes import TinyScenesJudge
from arr_trl.tiny_scenes.judge import zero_shot_rubric
from arr_trl.tiny_scenes.scenes import Caption, captions, render


def labelled_pairs(count: int) -> list[Preference]:
    """A picture of the caption and one of another caption, the right one first in every other pair."""
    names, rng = captions("train"), np.random.default_rng(0)
    pairs = []
    for i in range(count):
        wanted, other = rng.choice(len(names), size=2, replace=False)
        images = [render(Caption.parse(names[j]), rng) for j in (wanted, other)]
        winner = i % 2
        pairs.append(Preference(names[wanted], (images[winner], images[1 - winner]), winner))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--position_bias", type=float, default=0.3, help="Share of answers for the first image.")
    parser.add_argument("--noise", type=float, default=0.1, help="Share of random answers.")
    args = parser.parse_args()

    pairs = labelled_pairs(args.pairs)
    faults = {"position_bias": args.position_bias, "noise": args.noise}
    summaries = {}
    for name, settings in (("clean", {}), ("faulty", faults)):
        judge = RubricJudge(rubric=zero_shot_rubric(), model=TinyScenesJudge(**settings), order="fixed")
        summaries[name] = evaluate_judge(judge, pairs).summary()
    print_summary(summaries)
    truth, measured = args.position_bias / 2, summaries["faulty"]["position_bias"]
    print(f"position bias: {measured:.3f} measured, {truth:.3f} in truth, off by {abs(measured - truth):.3f}")

    for order in ("fixed", "random", "both"):
        judge = RubricJudge(rubric=zero_shot_rubric(), model=TinyScenesJudge(**faults), order=order)
        verdicts = judge.compare([JudgeRow(pair.prompt, pair.images) for pair in pairs])
        decided = [(v.winner, pair.winner) for v, pair in zip(verdicts, pairs, strict=True) if v.winner is not None]
        wrong = sum(said != right for said, right in decided)
        print(
            f'order="{order}": {len(decided)} of {len(pairs)} decided, {100 * wrong / len(decided):.1f}% of them wrong'
        )


if __name__ == "__main__":
    main()
