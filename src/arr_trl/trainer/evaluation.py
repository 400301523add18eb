"""The comparison of the trained model with its base: who draws what, what is found in it, and what is logged."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from PIL import Image
from torch import distributed

from ..data import MASK_COLUMN, SOURCE_COLUMN, batches_of_one_size, load_image
from ..evaluation import (
    EvaluationResults,
    InferenceSettings,
    draw,
    save_samples,
    success_rates,
    win_rate_from_rewards,
)
from ..evaluation.grid import edited_pictures
from ..folders import replacing
from ..policies import FlowPolicy, passes_of_all
from .flow_config import FlowConfig
from .measured import numbers


_GALLERY = 6  # pictures of an adapter that the Hub shows


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
    policy: FlowPolicy,
    model: torch.nn.Module,
    rows: list[dict[str, Any]],
    places: Sequence[int],
    args: FlowConfig,
    guidance_scale: float | None = None,
    on_drawn: Callable[[int], None] | None = None,
) -> list[Image.Image]:
    """
    Pictures as the pipeline's own `__call__` makes them, one per row, each from the noise of its own seed; at the
    `guidance_scale` of the configuration unless another is given. `on_drawn` is told after each batch how many there are.

    A batch has pictures of one size. Where processes gather sharded weights together, one that has fewer batches than another
    draws its first row until it has caught up.
    """
    scale = args.guidance_scale if guidance_scale is None else guidance_scale
    height, width, steps = args.eval_height, args.eval_width, args.eval_num_inference_steps
    settings = InferenceSettings(height, width, steps, scale, 1, args.eval_seed, args.size_from_source)
    sizes = policy.sizes_of(rows, height, width, args.size_from_source)
    if len(rows) <= policy.cache.max_rows:
        policy.encode_ahead(rows, sizes)  # while encoders that are offloaded are there
    images: list[Image.Image | None] = [None] * len(rows)
    batches = batches_of_one_size(sizes, args.per_device_eval_batch_size)
    for number in range(*passes_of_all(model, [len(batches)], policy.device)):
        batch = batches[number] if number < len(batches) else [0]
        drawn = draw(
            policy, model, [rows[i] for i in batch], [settings.seed_of(places[i], 0) for i in batch], settings
        )
        for i, image in zip(batch, drawn, strict=True):
            images[i] = image
        if on_drawn is not None:
            on_drawn(len(rows) - images.count(None))
    return images


def save_sheet(
    path: Path, rows: list[dict[str, Any]], base: list[Image.Image], trained: list[Image.Image], count: int
) -> None:
    """Write the first pictures of both beside each other, behind the sources where there are some."""
    rows = rows[:count]
    pictures = {**edited_pictures(rows), "base": base[:count], "trained": trained[:count]}
    save_samples(path, [row["prompt"] for row in rows], pictures)


def save_gallery(
    output_dir: Path, adapter: str, rows: list[dict[str, Any]], trained: list[Image.Image], count: int
) -> list[dict[str, str]]:
    """
    Write the first pictures of the trained model one by one, as the Hub shows them, with the source and mask of each beside
    it, which a Space begins with.

    Returns:
        `list[dict[str, str]]`: `file` and `prompt` of each.
    """
    gallery = []
    count = min(count, _GALLERY)
    for number, (row, picture) in enumerate(zip(rows[:count], trained, strict=False), start=1):
        file = f"gallery/{adapter}/{number}.png"
        with replacing(output_dir / file) as written:
            picture.save(written, format="PNG")
        for column, name in ((SOURCE_COLUMN, "source"), (MASK_COLUMN, "mask")):
            given = None if row.get(column) is None else load_image(row[column])
            beside = output_dir / f"gallery/{adapter}/{number}-{name}.png"
            beside.unlink(missing_ok=True)  # of other rows
            if isinstance(given, Image.Image):  # one of several would be another task
                with replacing(beside) as written:
                    given.save(written, format="PNG")
        gallery.append({"file": file, "prompt": row["prompt"]})
    return gallery


def results_of(
    rewards: list[tuple[float, float]], checks: Sequence[list[dict[str, bool]]] | None, **facts: Any
) -> EvaluationResults:
    """
    What all processes found together.

    Args:
        rewards (`list[tuple[float, float]]`): of this process, `(base, trained)` per prompt; NaN where there is none.
        checks (`Sequence[list[dict[str, bool]]]`, *optional*): what ground truths found in its pictures of both.
        facts: what else [`~arr_trl.evaluation.EvaluationResults`] takes.
    """
    judged = win_rate_from_rewards(gather_object(rewards))
    gathered = [None, None] if checks is None else [gather_object(of_model) for of_model in checks]
    base, trained = (None if of_model is None else success_rates(of_model) for of_model in gathered)
    return EvaluationResults(base=base, trained=trained, **vars(judged) | facts)


def gather_to_main(part: Any) -> list[Any] | None:
    """The parts of all processes in their order on the main one, `None` on the others, which never hold what others have."""
    if not distributed.is_initialized():
        return [part]
    parts = [None] * distributed.get_world_size() if distributed.get_rank() == 0 else None
    distributed.gather_object(part, parts)
    return parts


def means_over_processes(metrics: Mapping[str, Sequence[float | torch.Tensor]]) -> dict[str, float]:
    """The mean of every metric over all values of all processes; NaN is no value, and a metric without any is left out."""
    collected: dict[str, list[float]] = {}
    for of_process in gather_object([{name: numbers(values) for name, values in metrics.items()}]):
        for name, values in of_process.items():
            collected.setdefault(name, []).extend(value for value in values if not math.isnan(value))
    return {name: sum(values) / len(values) for name, values in collected.items() if values}


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
