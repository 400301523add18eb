"""The comparison of the trained model with its base: who draws what, what is found in it, and what is logged."""

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from trl.trainer.utils import get_callable_name

from ..data import SOURCE_COLUMN
from ..evaluation import EvaluationResults, InferenceSettings, draw, save_samples
from ..policies import FlowPolicy
from .rewards import columns_of
from .rpo_config import RPOConfig


def share_of(process: int, num_processes: int, num_rows: int) -> tuple[list[int], int]:
    """
    The rows that a process draws, without the training dataloader: evaluation must not touch the random state that
    training goes on with.

    Sharded weights are gathered by all processes together, so that all have to compute as much: the last rows that
    some would lack are those of the beginning again, and do not count.

    Returns:
        `tuple(list[int], int)`: their places in the dataset, and how many of them, from the first, count.
    """
    places = range(process, math.ceil(num_rows / num_processes) * num_processes, num_processes)
    return [place % num_rows for place in places], sum(place < num_rows for place in places)


def draw_rows(
    policy: FlowPolicy, model: torch.nn.Module, rows: list[dict[str, Any]], places: Sequence[int], args: RPOConfig
) -> list[Image.Image]:
    """Pictures as the pipeline's own `__call__` makes them, one per row, each from the noise of its own seed."""
    settings = InferenceSettings(
        args.eval_height, args.eval_width, args.eval_num_inference_steps, args.guidance_scale, 1, args.eval_seed
    )
    images = []
    for start in range(0, len(rows), args.per_device_eval_batch_size):
        batch = slice(start, start + args.per_device_eval_batch_size)
        images += draw(policy, model, rows[batch], [settings.seed_of(i, 0) for i in places[batch]], settings)
    return images


def check_pictures(
    eval_funcs: list[Callable], rows: list[dict[str, Any]], images: list[Image.Image]
) -> list[dict[str, bool]]:
    """
    What `eval_funcs` found in each picture, the criteria of all of them in one dictionary.

    Raises:
        `ValueError`: when one returned something else.
    """
    columns = columns_of(rows)
    checks: list[dict[str, bool]] = [{} for _ in images]
    for func in eval_funcs:
        output = func(completions=images, **columns)
        if not (
            isinstance(output, list | tuple)
            and len(output) == len(images)
            and all(isinstance(found, Mapping) for found in output)
        ):
            raise ValueError(
                f"The evaluation function {get_callable_name(func)!r} returned {reprlib.repr(output)} for "
                f"{len(images)} images; it has to return one dictionary of criteria, true or false, per image."
            )
        for check, found in zip(checks, output, strict=True):
            check.update(found)
    return checks


def save_sheet(
    path: Path, rows: list[dict[str, Any]], base: list[Image.Image], trained: list[Image.Image], count: int
) -> None:
    """Write the first pictures of both beside each other, behind the sources where there are some."""
    rows = rows[:count]
    sources = {"source": [row[SOURCE_COLUMN] for row in rows]} if SOURCE_COLUMN in rows[0] else {}
    pictures = {**sources, "base": base[:count], "trained": trained[:count]}
    save_samples(path, [row["prompt"] for row in rows], pictures)


def metrics_of(results: EvaluationResults, logged: Mapping[str, float]) -> dict[str, float]:
    """What is logged of an evaluation; `logged` is what the reward functions said themselves."""
    metrics = {
        "win_rate": results.win_rate,
        "tie_rate": results.tie_rate,
        "failure_rate": results.failure_rate,
        **logged,
    }
    if results.base is not None and results.trained is not None:
        metrics |= {"base_success_all": results.base.success_all, "success_all": results.trained.success_all}
        metrics |= {f"success/{name}": rate for name, rate in results.trained.success.items()}
    return {name: value for name, value in metrics.items() if value is not None}
