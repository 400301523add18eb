"""What `log_completions` shows of a rollout: the candidates with rewards and verdicts, on disk and in the trackers."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image as PILImage
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from ..evaluation import save_samples


logger = logging.getLogger(__name__)


def log_completions(
    folder: Path,
    step: int,
    prompts: Sequence[str],
    images: Sequence[PILImage.Image],
    sources: Sequence[PILImage.Image | list[PILImage.Image]] | None,
    columns: Mapping[str, Sequence[Any]],
    num_shown: int,
    report_to: Sequence[str],
    callbacks: Sequence[TrainerCallback],
) -> None:
    """
    Write `step_000010.parquet` with a row per candidate, and `step_000010.png` with the first prompts; the sheet and
    the table without pictures also go to wandb, trackio and TensorBoard, where the run reports to them.

    Args:
        folder (`Path`): where the files go.
        step (`int`): optimizer step.
        prompts (`Sequence[str]`): one per group of candidates.
        images (`Sequence[PIL.Image.Image]`): the candidates of a prompt adjacent.
        sources (`Sequence`, *optional*): what was edited, an image or a list of images per prompt.
        columns (`Mapping[str, Sequence]`): what else is known of every candidate, such as rewards and verdicts.
        num_shown (`int`): prompts on the sheet.
        report_to (`Sequence[str]`): names of the trackers.
        callbacks (`Sequence[~transformers.TrainerCallback]`): the run's callbacks; TensorBoard's holds the writer.
    """
    n = len(images) // len(prompts)
    table = {
        "step": [step] * len(images),
        "prompt": [prompt for prompt in prompts for _ in range(n)],
        "candidate": [k + 1 for _ in prompts for k in range(n)],
        # a reward function may have logged something that is not one per candidate
        **{name: list(values) for name, values in columns.items() if len(values) == len(images)},
    }
    sheet = folder / f"step_{step:06d}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shown = {f"candidate {k + 1}": images[k::n][:num_shown] for k in range(n)}
        pictures = {"image": list(images)}
        if sources is not None:
            shown = {"source": sources[:num_shown], **shown}
            # one reference or several: a column has one type
            listed = [list(source) if isinstance(source, list) else [source] for source in sources]
            pictures = {"source_image": [source for source in listed for _ in range(n)], **pictures}
        save_samples(sheet, prompts[:num_shown], shown)
        rows = Dataset.from_dict(table | pictures)
        rows.to_parquet(sheet.with_suffix(".parquet"))
    except OSError as error:
        logger.warning("The candidates of step %d could not be written: %s", step, error)
        return
    _report(sheet, step, table, report_to, callbacks)


def _report(sheet: Path, step: int, table: dict[str, list], report_to, callbacks) -> None:
    names, rows = list(table), list(zip(*table.values(), strict=True))
    if "wandb" in report_to:
        import wandb

        wandb.log({"completions": wandb.Table(columns=names, data=rows), "completions/sheet": wandb.Image(str(sheet))})
    if "trackio" in report_to:
        import pandas
        import trackio

        dataframe = pandas.DataFrame(rows, columns=names)
        trackio.log({"completions": trackio.Table(dataframe=dataframe), "completions/sheet": trackio.Image(sheet)})
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            picture = np.asarray(PILImage.open(sheet).convert("RGB"))
            callback.tb_writer.add_image("completions/sheet", picture, step, dataformats="HWC")
            lines = [names, ["---"] * len(names), *rows]
            text = "\n".join("| " + " | ".join(str(cell).replace("\n", " ") for cell in line) + " |" for line in lines)
            callback.tb_writer.add_text("completions", text, step)
