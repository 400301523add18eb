"""What a judge is worth on pairs that it did not learn from, before and after."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.preferences import Preference
from ..evaluation.judge_eval import evaluate_judge
from ..judges import JudgeRow, PresetJudge


_BINS = 10


def measure_judge(judge: PresetJudge, pairs: Sequence[Preference | str]) -> tuple[dict[str, Any], float | None]:
    """
    Ask a judge about held-out pairs.

    Args:
        judge ([`PresetJudge`]): the judge, with `order="fixed"`.
        pairs (`Sequence[Preference | str]`): labelled pairs, as [`~arr_trl.evaluation.judge_eval.evaluate_judge`] takes them.

    Returns:
        `tuple[dict[str, Any], float | None]`: what `arr-trl judge eval` measures, and the [`calibration_error`].
    """
    summary = evaluate_judge(judge, pairs).summary()
    return summary, calibration_error(judge, [pair for pair in pairs if isinstance(pair, Preference)])


def calibration_error(judge: PresetJudge, pairs: Sequence[Preference]) -> float | None:
    """
    How far a judge's scores, as probabilities that people prefer a picture, are from how often they do: the expected
    calibration error ([paper](https://huggingface.co/papers/1706.04599)) over ten equal bins of scores.

    What was asked in [`~arr_trl.evaluation.judge_eval.evaluate_judge`] is taken from the judge's store.

    Returns:
        `float`: 0 to 1; `None` for a judge without scores from 0 to 1, or without answers.
    """
    if judge.pairwise or judge.preset.scale is None:
        return None
    decided = [pair for pair in pairs if pair.winner is not None]
    verdicts = judge.compare([JudgeRow.of(pair) for pair in decided])
    said = [
        (score, float(place == pair.winner))
        for pair, verdict in zip(decided, verdicts, strict=True)
        if verdict.failure is None and verdict.scores is not None
        for place, score in enumerate(verdict.scores)
    ]
    if not said:
        return None
    scores, preferred = np.array(said).T
    bins = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    return float(sum(abs((scores - preferred)[bins == b].sum()) for b in range(_BINS)) / len(said))
