"""What `log_completions` shows of a rollout: the candidates with rewards and verdicts, on disk and in the trackers."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Value
from PIL import Image as PILImage
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from ..data import SOURCE_COLUMN
from ..evaluation import save_samples


logger = logging.getLogger(__name__)


def log_completions(
    folder: Path,
    step: int,
    rows: Sequence[Mapping[str, Any]],
    images: Sequence[PILImage.Image],
    columns: Mapping[str, Sequence[Any]],
    num_shown: int,
    report_to: Sequence[str],
    callbacks: Sequence[TrainerCallback],
) -> None:
    """
    Write `step_000010.parquet` with a row per candidate, and `step_000010.png` with the first prompts; these prompts
    also go to wandb, trackio and TensorBoard, as a table and as that sheet, where the run reports to them.

    A disk that is full costs a warning and not the run.

    Args:
        folder (`Path`): where the files go.
        step (`int`): optimizer step.
        rows (`Sequence[dict]`):
            the `prompt` of every group of candidates, and the `source_image` if it edits one, or the list of them.
        images (`Sequence[PIL.Image.Image]`): the candidates of a row adjacent.
        columns (`Mapping[str, Sequence]`): what else is known of every candidate, such as rewards and verdicts.
        num_shown (`int`): rows on the sheet and in the trackers.
        report_to (`Sequence[str]`): names of the trackers.
        callbacks (`Sequence[~transformers.TrainerCallback]`): the run's callbacks; TensorBoard's holds the writer.
    """
    n = len(images) // len(rows)
    table = {
        "step": [step] * len(images),
        "prompt": [row["prompt"] for row in rows for _ in range(n)],
        "candidate": [k + 1 for _ in rows for k in range(n)],
        # a reward function may have logged something else than one value per candidate
        **{name: list(values) for name, values in columns.items() if len(values) == len(images)},
    }
    shown = {f"candidate {k + 1}": images[k::n][:num_shown] for k in range(n)}
    pictures = {"image": list(images)}
    if all(SOURCE_COLUMN in row for row in rows):
        sources = [row[SOURCE_COLUMN] for row in rows]
        shown = {"source": sources[:num_shown], **shown}
        # one reference or several: a column has one type
        listed = [list(source) if isinstance(source, list) else [source] for source in sources]
        pictures = {SOURCE_COLUMN: [source for source in listed for _ in range(n)], **pictures}
    sheet = folder / f"step_{step:06d}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_samples(sheet, [row["prompt"] for row in rows[:num_shown]], shown)
        _save_table(sheet.with_suffix(".parquet"), Dataset.from_dict(table | pictures))
    except OSError as error:
        logger.warning("The candidates of step %d could not be written: %s", step, error)
        return
    first = slice(num_shown * n)
    table = {name: values[first] for name, values in table.items()}
    _report(sheet, step, table, {name: values[first] for name, values in pictures.items()}, report_to, callbacks)


def _save_table(path: Path, data: Dataset) -> None:
    for name, feature in data.features.items():
        if feature == Value("null"):  # a column of nothing would not fit those of other steps
            data = data.cast_column(name, Value("string"))
    written = path.with_suffix(".writing")
    data.to_parquet(written)
    written.replace(path)


def _report(sheet: Path, step: int, table: dict[str, list], pictures: dict[str, list], report_to, callbacks) -> None:
    trackers = []
    if "wandb" in report_to:
        import wandb

        trackers.append(wandb)
    if "trackio" in report_to:
        import trackio

        trackers.append(trackio)
    rows = list(zip(*table.values(), strict=True))
    for tracker in trackers:
        # of several references the trackers get the first
        firsts = [[some[0] if isinstance(some, list) else some for some in column] for column in pictures.values()]
        drawn = [[tracker.Image(image) for image in images] for images in zip(*firsts, strict=True)]
        data = [[*row, *some] for row, some in zip(rows, drawn, strict=True)]
        tracker.log({
            "completions": tracker.Table(columns=[*table, *pictures], data=data),
            "completions/sheet": tracker.Image(str(sheet)),
            "train/global_step": step,
        })  # fmt: skip
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            picture = np.asarray(PILImage.open(sheet).convert("RGB"))
            callback.tb_writer.add_image("completions/sheet", picture, step, dataformats="HWC")
            callback.tb_writer.add_text("completions", _markdown([list(table), ["---"] * len(table), *rows]), step)


def _markdown(lines: list[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        return str(value).replace("\n", " ").replace("|", "\\|")

    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)
