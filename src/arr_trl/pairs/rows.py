"""The rows of pairs, in the columns of [`~arr_trl.release.pairs.COLUMNS`]."""

from typing import Any

from ..data import MASK_COLUMN, SOURCE_COLUMN
from ..judges import JudgeReward
from .outcome import PairOutcome
from .painter import Painter, png


def best_worst_row(outcome: PairOutcome, judge: JudgeReward, painter: Painter) -> dict[str, Any]:
    """
    The row of a pair of [`~arr_trl.pairs.BestWorst`].

    Args:
        outcome ([`PairOutcome`]): a pair that is made.
        judge ([`JudgeReward`]): who judged.
        painter ([`Painter`]): what drew both pictures.
    """
    row = _common(outcome, judge, painter)
    for name, place in (("chosen", outcome.verdict.winner), ("rejected", 1 - outcome.verdict.winner)):
        # as the trainers say from which noise a picture was drawn: the seed, and how much was drawn before
        row |= {name: _stored(outcome.images[place].read_bytes()), f"{name}_noise": [outcome.seeds[place], 0]}
    return row


def rich_row(outcome: PairOutcome, judge: JudgeReward, painter: Painter, editor: Painter) -> dict[str, Any]:
    """
    The row of a pair of [`~arr_trl.pairs.RichPairs`], with what led to it. The faults are its `rationale` only where the
    edited picture won: they say why the other one lost.

    Args:
        outcome ([`PairOutcome`]): a pair that is made.
        judge ([`JudgeReward`]): who judged.
        painter ([`Painter`]): what drew the picture.
        editor ([`Painter`]): what edited it.
    """
    row = _common(outcome, judge, painter)
    mended = "; ".join(f"{fault.what} ({fault.where})" if fault.where else fault.what for fault in outcome.mended)
    if outcome.verdict.winner == 1:
        row["rationale"] = f"Of the other picture: {mended}"
    return row | {
        "images": [_stored(path.read_bytes()) for path in outcome.images],
        "label_rank": [1.0, 2.0] if outcome.verdict.winner == 0 else [2.0, 1.0],
        "instruction": outcome.instruction,
        "faults": [f"{fault.kind}, severity {fault.severity}: {fault.what}" for fault in outcome.faults],
        "edit_model": editor.name,
        "seed": outcome.seeds[0],
        "edit_seed": outcome.seeds[1],
    }


def _common(outcome: PairOutcome, judge: JudgeReward, painter: Painter) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": outcome.prompt}
    if outcome.source is not None:
        sources = outcome.source if isinstance(outcome.source, list) else [outcome.source]
        row[SOURCE_COLUMN] = [_stored(png(source)) for source in sources]
    if outcome.mask is not None:
        row[MASK_COLUMN] = _stored(png(outcome.mask))
    return row | {
        "rationale": outcome.verdict.reason or None,
        "margin": outcome.verdict.margin,
        "judge": ", ".join(dict.fromkeys(judge.model_names)) or type(judge).__name__,
        "rubric": ", ".join(judge.asked_by) or None,
        "model": painter.name,
    }


def _stored(content: bytes) -> dict[str, Any]:
    return {"bytes": content, "path": None}
