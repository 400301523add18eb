"""Base against adapters on a prompt set: draw, judge, measure, add up."""

import copy
import hashlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data import SOURCE_COLUMN, decode_sources, size_of_row, sources_digest
from ..folders import hub_name, replacing
from ..judges import JudgeFuture, JudgeReward, JudgeRow, JudgeStats, PresetJudge, RubricJudge
from ..policies import FlowPolicy, check_adaptable
from ..rewards import call, columns_of, get_callable_name, met_criteria, reward_list
from .adapters import AdapterSource, load_adapters, weights_digest
from .pictures import InferenceSettings, PictureFolder, check_settings
from .pixels import pixel_distance, pixel_diversity
from .records import BASE, PairRecord, PictureRecord, pair_record
from .summary import Evaluation, judge_facts, summarize


_CHUNKS_JUDGED_AT_ONCE = 4  # their pictures stay in memory
Row = dict[str, Any]


class Evaluator:
    """
    Compares a base with adapters, and the adapters with each other, on the same prompts and noise.

    Pictures are kept in `output/images`, and what the judge answered in its store, so an evaluation that was stopped
    goes on when it is started again. Under `torchrun` or `accelerate launch` every process takes its share of the
    prompts. What can be wrong is found when the object is made, before anything is drawn.

    Args:
        policy ([`FlowPolicy`]):
            The base; its network gets the adapters.
        adapters (`Sequence[AdapterSource]`):
            What is compared with it; see [`parse_adapters`].
        rows (`Sequence[dict]`):
            Dataset rows with a `prompt`, and a `source_image` where the pipeline edits: a picture, or a path to one.
        output (`str` or `Path`):
            Folder for `images`, `pairs.jsonl` and `results.json`.
        settings ([`InferenceSettings`], *optional*):
            How pictures are drawn.
        judge ([`JudgeReward`], *optional*):
            Who compares them.
        reward_funcs (`Sequence[Callable]`, *optional*):
            Further columns, in TRL's protocol; the group of a prompt is one picture of every model.
        eval_funcs (`Sequence[Callable]`, *optional*):
            Ground truths, one `dict[str, bool]` per picture.
        batch_size (`int`, *optional*, defaults to `8`):
            Pictures in one forward pass.
        base_model (`str`, *optional*):
            What the base is called. Unset, the name of the pipeline.

    Raises:
        `ValueError`: when there are no rows, nothing to measure with, an adapter does not fit, or the pictures that are
            in `output` were drawn otherwise.
        `FileNotFoundError`: when an adapter does not exist.
    """

    def __init__(
        self,
        policy: FlowPolicy,
        adapters: Sequence[AdapterSource],
        rows: Sequence[Row],
        output: str | Path,
        settings: InferenceSettings | None = None,
        judge: JudgeReward | None = None,
        reward_funcs: Sequence[Callable] = (),
        eval_funcs: Sequence[Callable] = (),
        batch_size: int = 8,
        base_model: str | None = None,
    ):
        if len(rows) == 0:
            raise ValueError("There are no prompts to evaluate on.")
        if judge is None and not reward_funcs and not eval_funcs:
            raise ValueError("There is nothing to compare with: give a judge, `reward_funcs` or `eval_funcs`.")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} has to be at least 1.")
        settings = settings or InferenceSettings()
        check_adaptable(policy.pipeline)
        policy.check_sizes({"height": settings.height, "width": settings.width}, policy.size_multiple)
        self.rows = rows
        self.output = Path(output)
        self.adapters = adapters
        self.models = [BASE, *(source.name for source in adapters)]
        self.settings = settings
        self.judge = judge
        self.reward_funcs = reward_funcs
        self.eval_funcs = eval_funcs
        self.batch_size = batch_size
        self.base_model = hub_name(base_model or str(policy.pipeline.name_or_path or type(policy.pipeline).__name__))
        self.pairs: list[PairRecord] = []
        self.pictures: list[PictureRecord] = []
        self.stats = JudgeStats()
        self._judging: deque[tuple[JudgeFuture | None, list[JudgeRow], list[PairRecord]]] = deque()

        # without the flag accelerate takes processes on CPUs for strangers
        self._state = PartialState(cpu=not torch.accelerator.is_available())
        base = policy.fingerprint()
        model = load_adapters(policy.pipeline.transformer, adapters, policy.pipeline_class)
        policy.to(self._state.device)
        self._drawn_with = {
            **policy.call_kwargs(settings.height, settings.width),
            "dtype": str(policy.dtype).removeprefix("torch."),
        }
        images = self.output / "images"
        if self._state.is_main_process:
            facts = {
                "base_model": Path(self.base_model).name,
                "base": base,
                **self._drawn_with,
                "prompts": hashlib.sha256("\0".join(row["prompt"] for row in rows).encode()).hexdigest()[:16],
                **({"sources": sources_digest(rows)} if any(map(policy.edits, rows)) else {}),
                **({"sizes": [*map(size_of_row, rows)]} if any(map(size_of_row, rows)) else {}),
                **{f"adapter {source.name}": weights_digest(model, source.name) for source in adapters},
            }
            check_settings(images, settings, facts)
        self._state.wait_for_everyone()
        self.folder = PictureFolder(images, policy, model, settings, batch_size)

    def run(self) -> tuple[Evaluation, list[PairRecord], list[PictureRecord]] | None:
        """
        Draw, judge, measure and add up; writes `results.json` and `pairs.jsonl`.

        Returns:
            `tuple(Evaluation, list[PairRecord], list[PictureRecord])`: on the main process; `None` on the others.
        """
        state, rows = self._state, self.rows
        mine = range(state.process_index, len(rows), state.num_processes)
        step = max(1, self.batch_size // self.settings.num_images_per_prompt)
        with _progress(state.is_main_process) as progress:
            task = progress.add_task("prompts", total=len(mine))
            for start in range(0, len(mine), step):
                chunk = mine[start : start + step]
                self._take(chunk, decode_sources([rows[i] for i in chunk]))
                progress.update(task, advance=len(chunk))
            while self._judging:
                self._collect()

        pairs, pictures = gather_object(self.pairs), gather_object(self.pictures)
        costs = gather_object([self.stats])
        if not state.is_main_process:
            return None
        for records in (pairs, pictures):
            records.sort(key=lambda record: (record.prompt, record.image))
        total = JudgeStats()
        for cost in costs:
            total += cost
        rubric = self.judge.rubric if isinstance(self.judge, RubricJudge) else None
        models, comparisons, ranking = summarize(self.models, pairs, pictures, rubric)
        evaluation = Evaluation(
            base_model=self.base_model,
            adapters={source.name: source.where for source in self.adapters},
            prompts=len(rows),
            settings={**vars(self.settings), **self._drawn_with},
            judge=None if self.judge is None else judge_facts(self.judge, total),
            models=models,
            comparisons=comparisons,
            ranking=ranking,
        )
        evaluation.save(self.output / "results.json")
        with replacing(self.output / "pairs.jsonl") as written, written.open("w", encoding="utf-8") as file:
            for pair in pairs:
                line = {**pair.to_dict(), "prompt_text": rows[pair.prompt]["prompt"]}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return evaluation, pairs, pictures

    def _take(self, prompts: Sequence[int], rows: list[Row]) -> None:
        """Draw and measure some prompts, and ask the judge about them."""
        n = self.settings.num_images_per_prompt
        images = {model: self.folder.images(model, prompts, rows) for model in self.models}
        places = [(prompt, k) for prompt in prompts for k in range(n)]
        repeated = [row for row in rows for _ in range(n)]
        rewards = self._rewards(repeated, images)
        for model in self.models:
            checks = met_criteria(self.eval_funcs, repeated, images[model])
            for i, place in enumerate(places):
                same_prompt = images[model][i : i + n] if place[1] == 0 else []
                self.pictures.append(
                    PictureRecord(
                        *place,
                        model,
                        drift=None if model == BASE else pixel_distance(images[BASE][i], images[model][i]),
                        diversity=pixel_diversity(same_prompt),
                        rewards={name: by_model[model][i] for name, by_model in rewards.items()},
                        checks=checks[i],
                    )
                )
        asked, records = [], []
        for first, second in combinations(self.models, 2):
            for i, place in enumerate(places):
                candidates = (images[first][i], images[second][i])
                row = repeated[i]
                asked.append(JudgeRow(row["prompt"], candidates, row.get(SOURCE_COLUMN), columns=row))
                scored = {name: (by_model[first][i], by_model[second][i]) for name, by_model in rewards.items()}
                records.append(pair_record(place, (first, second), None, None, None, scored))
        self._judging.append((self.judge.submit(asked) if self.judge is not None and asked else None, asked, records))
        if len(self._judging) > _CHUNKS_JUDGED_AT_ONCE:
            self._collect()

    def _collect(self) -> None:
        future, rows, records = self._judging.popleft()
        if future is None:
            self.pairs += records
            return
        verdicts, cost = future.result()
        self.stats += cost
        orders = self._orders(rows, verdicts)
        for record, verdict, (forward, reversed_) in zip(records, verdicts, orders, strict=True):
            place = record.prompt, record.image
            self.pairs.append(pair_record(place, record.models, verdict, forward, reversed_, record.rewards))

    def _orders(self, rows: list[JudgeRow], verdicts) -> list[tuple]:
        """What the judge said in each order alone: the same questions, so every answer is in its store already."""
        orders: list[tuple] = [(None, None)] * len(rows)
        if not isinstance(self.judge, RubricJudge | PresetJudge) or self.judge.order != "both" or not rows:
            return orders
        one_order = copy.copy(self.judge)
        one_order.order = "fixed"
        told = [i for i, verdict in enumerate(verdicts) if verdict.failure is None and verdict.consistent is not None]
        if not told:
            return orders
        swapped = [replace(rows[i], images=rows[i].images[::-1]) for i in told]
        answers = one_order.compare([rows[i] for i in told] + swapped)
        for i, forward, reversed_ in zip(told, answers[: len(told)], answers[len(told) :], strict=True):
            orders[i] = (forward, reversed_)
        return orders

    def _rewards(self, rows: list[Row], images: dict[str, list[Image.Image]]) -> dict[str, dict[str, list]]:
        """By function and model, one reward per picture. The models' pictures of one noise are its group."""
        groups = list(zip(*images.values(), strict=True))
        completions = [image for group in groups for image in group]
        repeated = [row for row in rows for _ in self.models]
        found = {}
        for func in self.reward_funcs:
            output = call(
                func,
                completions=completions,
                **columns_of(repeated),
                num_generations=len(self.models),
                trainer_state=None,
                log_metric=_ignore,
                log_extra=_ignore,
            )
            name = get_callable_name(func)
            rewards = reward_list(output, name, len(completions))
            found[name] = {model: rewards[m :: len(self.models)] for m, model in enumerate(self.models)}
        return found


def _ignore(*_: Any) -> None:
    """Metrics that a reward function logs belong to a training run."""


def _progress(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), disable=not shown
    )
