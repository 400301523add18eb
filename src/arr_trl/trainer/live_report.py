"""`report.html` of a run that goes on: the page of `arr-trl evaluate`, written again at each evaluation."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from PIL import Image
from transformers import TrainerState

from ..adapter_names import called
from ..data import MASK_COLUMN, SOURCE_COLUMN, read_rows
from ..evaluation import Evaluation, InferenceSettings, pixel_distance, write_report
from ..evaluation.pictures import picture_path
from ..evaluation.records import BASE, PairRecord, PictureRecord
from ..evaluation.summary import judge_facts, summarize
from ..folders import replacing
from ..judges import JudgeReward, JudgeStats, RubricJudge
from ..policies import FlowPolicy
from .flow_config import FlowConfig


logger = logging.getLogger(__name__)

REPORT = "report.html"


def write_live_report(
    args: FlowConfig,
    policy: FlowPolicy,
    base_model: str,
    dataset: Dataset,
    places: Sequence[int],
    pictures: Mapping[str, Sequence[Image.Image]],
    rewards_P2: torch.Tensor,
    checks: Sequence[Sequence[dict[str, bool]]],
    said: Mapping[str, Sequence[Any]],
    judges: Sequence[JudgeReward],
    calls: int,
    state: TrainerState,
) -> None:
    """
    Write the pictures of this process's prompts to `images`, and `report.html` on the main one. Called by all processes. A
    report that cannot be written costs a warning and not the run.

    Args:
        args ([`FlowConfig`]): the configuration.
        policy ([`FlowPolicy`]): the policy.
        base_model (`str`): what the base is called.
        dataset ([`~datasets.Dataset`]): the prompts, of all processes.
        places (`Sequence[int]`): those of them that this process compared.
        pictures (`Mapping[str, Sequence[PIL.Image.Image]]`): `"base"` and `"trained"`, one for each of these.
        rewards_P2 (`torch.Tensor`): `[P, 2]`, what both were worth, which is who won; NaN where there is none.
        checks (`Sequence`): what ground truths found in the pictures of both; empty without any.
        said (`Mapping[str, Sequence]`):
            What the judge logged of each picture, those of a prompt adjacent: `judge_reason`, `judge_margin` and
            `judge_consistent`. What several judges logged is left out.
        judges (`Sequence[JudgeReward]`): who compared them.
        calls (`int`): what they were asked for that, in all processes.
        state ([`~transformers.TrainerState`]): of the run, whose logs are the report's curves.
    """
    output, adapter = Path(args.output_dir), called(args.adapter_subfolder)
    try:
        for model, name in ((BASE, "base"), (adapter, "trained")):
            for place, picture in zip(places, pictures[name], strict=True):
                with replacing(picture_path(output / "images", model, place, 0)) as written:
                    picture.save(written, format="PNG", compress_level=1)
    except OSError as error:  # a full disk; the others wait for the records
        logger.warning("Pictures of the evaluation could not be written: %s", error)
    pairs = gather_object(_pairs(places, (BASE, adapter), rewards_P2.tolist(), said))
    records = gather_object(_pictures(places, (BASE, adapter), pictures, checks))
    if not state.is_world_process_zero:
        return
    for found in (pairs, records):
        found.sort(key=lambda record: record.prompt)
    height, width, steps = args.eval_height, args.eval_width, args.eval_num_inference_steps
    how = args.guidance_scale, 1, args.eval_seed, args.size_from_source
    settings = InferenceSettings(height, width, steps, *how)
    # what several judges said together has no one judge's name
    judge = judges[0] if len(judges) == 1 else None
    rubric = judge.rubric if isinstance(judge, RubricJudge) else None
    models, comparisons, ranking = summarize([BASE, adapter], pairs, records, rubric)
    folder = output / args.adapter_subfolder
    evaluation = Evaluation(
        base_model=base_model,
        adapters={adapter: str(folder)},
        prompts=len(dataset),
        settings={**vars(settings), **policy.call_kwargs(height, width), "step": state.global_step},
        judge=None if judge is None else judge_facts(judge, JudgeStats(calls=calls)),
        models=models,
        comparisons=comparisons,
        ranking=ranking,
    )
    rows = read_rows(dataset, range(len(dataset)))
    rows = [{name: row[name] for name in ("prompt", SOURCE_COLUMN, MASK_COLUMN) if name in row} for row in rows]
    try:
        with replacing(output / "trainer_state.json") as written:  # where a report's curves come from
            state.save_to_json(str(written))
        write_report(output, evaluation, pairs, rows)
    except OSError as error:
        logger.warning("%s could not be written: %s", output / REPORT, error)


def _pairs(
    places: Sequence[int],
    models: tuple[str, str],
    rewards: Sequence[tuple[float, float]],
    said: Mapping[str, Sequence[Any]],
) -> list[PairRecord]:
    def of(column: str, i: int, default: Any = None) -> Any:
        values = said.get(column, ())
        return values[2 * i] if len(values) == 2 * len(places) else default

    records = []
    for i, (place, (base, trained)) in enumerate(zip(places, rewards, strict=True)):
        failed = math.isnan(base) or math.isnan(trained)
        side = 0 if failed else (trained > base) - (trained < base)
        reason, margin = of("judge_reason", i, "") or "", of("judge_margin", i)
        records.append(
            PairRecord(
                place,
                0,
                models,
                winner=None if not side else int(side > 0),
                failure=(reason or "No reward function answered.") if failed else None,
                consistent=None if failed else of("judge_consistent", i),
                margin=None if failed else float(side) if margin is None else side * margin,
                reason="" if failed else reason,
            )
        )
    return records


def _pictures(
    places: Sequence[int],
    models: tuple[str, str],
    pictures: Mapping[str, Sequence[Image.Image]],
    checks: Sequence[Sequence[dict[str, bool]]],
) -> list[PictureRecord]:
    both = list(zip(models, (pictures["base"], pictures["trained"]), checks, strict=True))
    return [
        PictureRecord(
            place,
            0,
            model,
            drift=None if model == BASE else pixel_distance(pictures["base"][i], drawn[i]),
            checks=of_model[i] if of_model else {},
        )
        for model, drawn, of_model in both
        for i, place in enumerate(places)
    ]
