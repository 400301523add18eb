"""The rows of pairs, in the columns of [`~arr_trl.release.pairs.COLUMNS`]."""

from pathlib import Path
from typing import Any

from ..data import SOURCE_COLUMN
from ..judges import JudgeReward
from .outcome import PairOutcome
from .painter import Painter, png


def pair_row(outcome: PairOutcome, judge: JudgeReward, painter: Painter) -> dict[str, Any]:
    """
    What every pair's row has.

    Args:
        outcome ([`PairOutcome`]): a pair that is made.
        judge ([`JudgeReward`]): who judged.
        painter ([`Painter`]): what drew the pictures, or the first of them.
    """
    row: dict[str, Any] = {"prompt": outcome.prompt}
    if outcome.source is not None:
        sources = outcome.source if isinstance(outcome.source, list) else [outcome.source]
        row[SOURCE_COLUMN] = [_stored(png(source)) for source in sources]
    return row | {
        "images": [_stored(path.read_bytes()) for path in outcome.images],
        "label_rank": [1.0, 2.0] if outcome.verdict.winner == 0 else [2.0, 1.0],
        "rationale": outcome.verdict.reason or None,
        "margin": outcome.verdict.margin,
        "judge": ", ".join(dict.fromkeys(judge.model_names)) or type(judge).__name__,
        "rubric": ", ".join(rubric.content_hash for rubric in judge.rubrics) or None,
        "model": painter.name,
        "seeds": outcome.seeds,
    }


def rich_row(outcome: PairOutcome, judge: JudgeReward, painter: Painter, editor: Painter) -> dict[str, Any]:
    """
    The row of a pair of [`RichPairs`], with what led to it. The faults are its `rationale` only where the edited picture
    won: they say why the other one lost.

    Args:
        outcome ([`PairOutcome`]): a pair that is made.
        judge ([`JudgeReward`]): who judged.
        painter ([`Painter`]): what drew the picture.
        editor ([`Painter`]): what edited it.
    """
    mended = "; ".join(f"{fault.what} ({fault.where})" if fault.where else fault.what for fault in outcome.mended)
    row = pair_row(outcome, judge, painter)
    return row | {
        "rationale": f"Of the other picture: {mended}" if outcome.verdict.winner == 1 else row["rationale"],
        "instruction": outcome.instruction,
        "faults": [f"{fault.kind}, severity {fault.severity}: {fault.what} ({fault.where})" for fault in outcome.faults],
        "edit_model": editor.name,
    }


def _stored(content: bytes) -> dict[str, Any]:
    return {"bytes": content, "path": None}
