"""Chosen traces as a dataset, and as rows that a judge is trained on."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value

from ..data import MASK_COLUMN, SOURCE_COLUMN, undecoded
from ..folders import replacing
from ..judges import Preset
from .rows import answered, as_batch, asked_about
from .traces import TraceOutcome


_ROWS_OF_A_FILE = 1000
_FEATURES = Features(
    {
        "prompt": Value("string"),
        SOURCE_COLUMN: List(Image()),
        MASK_COLUMN: Image(),
        "image": Image(),
        "principles": List({"question": Value("string"), "category": Value("string")}),
        "completion": Value("string"),
        "score": Value("float64"),
        "accuracy": Value("float64"),
        "gold": List(Value("int64")),
        "model": Value("string"),
        "temperature": Value("float64"),
    }
)
_CARD = """---
pretty_name: Traces of judges
tags:
- arr_trl
- image
---

# {name}

What models wrote about pictures, point by point, of each picture the trace that agrees best with a verifier that saw none of
them. {rows} rows; asked as the preset `{preset}`, version {version}.

- `prompt`, `source_image`, `mask_image`, `image`: what was asked for, what was edited, what of it was to be drawn anew where
  that was said, and the picture
- `principles`: the points that were checked, written before the picture was seen
- `completion`: the trace; `score`: the final score in it; `model` and `temperature`: who wrote it
- `gold`: the verifier's answers to the points; `accuracy`: the share of them that the trace has

Train on it with `arr-trl judge train --method traces --judge_preset {preset}`.
"""


def write_traces(outcomes: Iterable[TraceOutcome], folder: Path, preset: Preset) -> int:
    """
    Write the chosen traces to a folder, in place of those that were there; a thousand rows are in memory at a time.

    Args:
        outcomes (`Iterable[TraceOutcome]`): outcomes; those without a trace are passed over.
        folder (`Path`): gets `data/train-00000.parquet` and so on, and `README.md`.
        preset ([`~arr_trl.judges.Preset`]): what was asked.

    Returns:
        `int`: rows.
    """
    written, count, waiting = folder / ".writing", 0, []
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)

    def write() -> None:
        file = written / f"train-{count // _ROWS_OF_A_FILE:05}.parquet"
        Dataset.from_list(waiting, features=_FEATURES).to_parquet(file)
        waiting.clear()

    for outcome in outcomes:
        if outcome.chosen is None:
            continue
        waiting.append(_stored(outcome))
        if len(waiting) == _ROWS_OF_A_FILE:
            write()
            count += _ROWS_OF_A_FILE
    if waiting:
        rows = len(waiting)
        write()
        count += rows
    shutil.rmtree(folder / "data", ignore_errors=True)
    written.rename(folder / "data")
    with replacing(folder / "README.md") as card:
        text = _CARD.format(name=folder.name, rows=count, preset=preset.name, version=preset.version)
        card.write_text(text, encoding="utf-8")
    return count


def trace_rows(traces: Dataset, preset: Preset) -> Dataset:
    """
    Rows for [`FirstTokenSFTTrainer`]: the question of a preset with the points that were checked, and the trace.

    Args:
        traces ([`~datasets.Dataset`]): what [`write_traces`] wrote.
        preset ([`~arr_trl.judges.Preset`]): the question.

    Raises:
        `ValueError`: when they are not such rows.
    """
    missing = [name for name in ("prompt", "image", "principles", "completion") if name not in traces.column_names]
    if missing:
        raise ValueError(
            f"The dataset has no column {missing[0]!r}; `--method traces` trains on what `arr-trl judge traces` writes."
        )

    def made(batch: Mapping[str, list]) -> dict[str, list]:
        rows = zip(*batch.values(), strict=True)
        return as_batch([_row(preset, dict(zip(batch, values, strict=True))) for values in rows])

    return undecoded(traces).with_transform(made)


def _row(preset: Preset, stored: Mapping[str, Any]) -> dict[str, Any]:
    points = {preset.before.name: stored["principles"]}
    source, mask = stored.get(SOURCE_COLUMN), stored.get(MASK_COLUMN)
    question = asked_about(preset, stored["prompt"], stored["image"], source, points, mask)
    return question | {"completion": answered(stored["completion"])}


def _stored(outcome: TraceOutcome) -> dict[str, Any]:
    chosen = outcome.chosen
    return {
        "prompt": outcome.row.prompt,
        SOURCE_COLUMN: outcome.row.sources,
        MASK_COLUMN: outcome.row.mask,
        "image": outcome.row.images[0],
        "principles": outcome.points,
        "completion": chosen.text,
        "score": chosen.score,
        "accuracy": chosen.accuracy,
        "gold": list(outcome.gold),
        "model": chosen.model,
        "temperature": chosen.temperature,
    }
