"""The evaluation of a trainer: pictures of the trained model beside those of its base, and what judges make of them."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from PIL import Image
from torch.distributed.fsdp import FSDPModule

from ..adapter_names import called
from ..data import decode_columns, decode_sources, read_rows
from ..evaluation.picture_statistics import color_histogram, histogram_distance, picture_statistics
from ..judges import JudgeReward
from ..rewards import met_criteria
from ..runtime.memory import computing_as_released
from .card import win_rate_by
from .ema import released_weights
from .evaluation import draw_rows, metrics_of, results_of, save_gallery, save_sheet, share_of
from .frozen_copies import use_frozen_copy
from .live_report import write_live_report
from .screen import follow_judges


logger = logging.getLogger(__name__)


class BaseComparison:
    """A part of [`FlowTrainer`], named before `Trainer`."""

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """
        Compare the trained model with its base, the adapter switched off or the weights as they were, on the same prompts and noise.

        Fills `self.evaluation` and writes `samples.png`, the pictures of the card's gallery and `report.html`, with its
        pictures in `images`, to `output_dir`. What is logged has the step whose weights were compared.

        Returns:
            `dict[str, float]`: `eval_win_rate`, `eval_tie_rate`, what the reward functions logged, and the success
            rates of `eval_funcs`.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError(f"{type(self).__name__}.evaluate needs an `eval_dataset` with a `prompt` column.")
        if self.accelerator.is_fsdp2 and not isinstance(self.model, FSDPModule):
            raise RuntimeError(
                "Under FSDP2 the base is sharded when training begins, and is in the host's memory until then: call "
                "`train` before `evaluate`, or set eval_on_start=True."
            )
        started, asked = time.perf_counter(), self.metric_totals["judge/calls"]
        places, counted = share_of(self.accelerator.process_index, self.accelerator.num_processes, len(dataset))
        rows, failure = [], None
        try:
            rows = decode_sources(read_rows(dataset, places))
            self.policy.sizes_of(rows, self.args.eval_height, self.args.eval_width, self.args.size_from_source)
        except Exception as error:  # the others wait for this process
            failure = error
        self._stop_together(failure, "A row of another process cannot be evaluated on.")
        model = self.accelerator.unwrap_model(self.model_wrapped)

        def told(first: int) -> Callable[[int], None]:
            return lambda count: self.screen.doing("drawing for the evaluation", first + count, 2 * len(rows))

        with self.screen.showing():
            told(0)(0)
            with use_frozen_copy(model, None):
                base = draw_rows(self.policy, self.model_wrapped, rows, places, self.args, on_drawn=told(0))
            with released_weights(model), computing_as_released(model):
                trained = draw_rows(self.policy, self.model_wrapped, rows, places, self.args, on_drawn=told(len(rows)))
            as_trained = self._measured_as_trained(rows, places, counted, base, dataset)

            rewards_PN, checks, logged = self._measured(rows[:counted], base[:counted], trained[:counted], dataset)
        self.evaluation = results_of(
            rewards_PN.tolist(),
            checks if self.eval_funcs else None,
            base_model=self.base_model,
            adapter=self.args.adapter_subfolder,
            order_consistency=logged.get("judge/order_consistency"),
            judge_calls=round(sum(gather_object([self.metric_totals["judge/calls"]]))),
            transformer_forwards=sum(gather_object([self._train_forwards])),
            train_seconds=self._train_seconds,
            win_rate_by=win_rate_by(self.reward_funcs),
            last_failure=self._last_failure(),
            as_trained=as_trained,
            # nobody was asked, so that nobody failed to answer
            **({} if self.reward_funcs else {"failure_rate": None}),
        )
        self._evaluated = self._weights_step, eval_dataset is None
        if self.accelerator.is_main_process:
            folder, count = Path(self.args.output_dir), self.args.num_eval_samples
            save_sheet(folder / "samples.png", rows, base, trained, count)
            self._gallery = save_gallery(folder, called(self.args.adapter_subfolder), rows, trained, count)
        measured = metrics_of(self.evaluation, logged) | {"runtime": time.perf_counter() - started}
        measured |= {f"as_trained/{name}": value for name, value in (as_trained or {}).items()}
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        with self._at_step_of_weights():
            self.log(metrics)
            write_live_report(
                self.args,
                self.policy,
                self.base_model,
                dataset,
                places[:counted],
                {"base": base[:counted], "trained": trained[:counted]},
                rewards_PN,
                checks,
                self._extra_logs,
                [func for func in (self._compared_by or self.reward_funcs) if isinstance(func, JudgeReward)],
                round(sum(gather_object([self.metric_totals["judge/calls"] - asked]))),
                self.state,
            )
        self._mode = "train"
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def evaluate_release(self) -> None:
        """Compare what is released with its base; what was compared last is not drawn again if it is that."""
        if self.evaluation is None or self._evaluated != (self._weights_step, True):
            self.evaluation = None  # it was of other weights, and `evaluate` may fail
            self.evaluate()
            return
        self.evaluation = replace(
            self.evaluation,
            judge_calls=round(sum(gather_object([self.metric_totals["judge/calls"]]))),
            transformer_forwards=sum(gather_object([self._train_forwards])),
            train_seconds=self._train_seconds,
        )

    @property
    def _weights_step(self) -> int:
        """The optimizer step that the weights are of: that of the best where they were loaded at the end."""
        return self.state.global_step if self._loaded_step is None else self._loaded_step

    @contextmanager
    def _at_step_of_weights(self) -> Iterator[None]:
        reached, self.state.global_step = self.state.global_step, self._weights_step
        try:
            yield
        finally:
            self.state.global_step = reached

    @property
    def released(self) -> str:
        """Which weights are released, in words."""
        best = f", the best by {self._best_metric()}" if self._loaded_step is not None else ""
        return f"step {self._weights_step} of {self.state.max_steps or self.args.max_steps}{best}"

    def _best_metric(self) -> str:
        return f"eval_{self.args.metric_for_best_model.removeprefix('eval_')}"

    def _last_failure(self) -> str | None:
        """Why a judge gave no verdict the last time that one did not."""
        judges = [func for func in self.reward_funcs if isinstance(func, JudgeReward)]
        found = gather_object([next((judge.last_failure for judge in judges if judge.last_failure is not None), None)])
        return next((failure for failure in found if failure is not None), None)

    def _measured_as_trained(
        self,
        rows: list[dict[str, Any]],
        places: list[int],
        counted: int,
        base: list[Image.Image],
        dataset: Dataset,
    ) -> dict[str, float] | None:
        """
        The trained model at the guidance that its loss had, against the base as it is used, where the two differ: trained
        without classifier-free guidance and used with it. The figures of DiffusionNFT's paper are without.
        """
        scale = self._guidance_in_training()
        if scale == self.args.guidance_scale:
            return None
        model = self.accelerator.unwrap_model(self.model_wrapped)
        with released_weights(model), computing_as_released(model):
            trained = draw_rows(self.policy, self.model_wrapped, rows, places, self.args, scale)
        rewards_PN, checks, _ = self._measured(rows[:counted], base[:counted], trained[:counted], dataset)
        checks = checks if self.eval_funcs else None
        found = results_of(
            rewards_PN.tolist(), checks, base_model=self.base_model, adapter=self.args.adapter_subfolder
        )
        return {
            "guidance_scale": scale,
            **({} if found.win_rate is None else {"win_rate": found.win_rate}),
            **({} if found.trained is None else {"success_all": found.trained.success_all}),
        }

    def _measured(
        self, rows: list[dict[str, Any]], base: list[Image.Image], trained: list[Image.Image], dataset: Dataset
    ) -> tuple[torch.Tensor, list[list[dict[str, bool]]], dict[str, float]]:
        """Rewards `[P, 2]` and criteria of base and trained, and what all processes measured of their comparisons."""
        self._mode, failure = "eval", None
        self._extra_logs.clear()
        rewards_PN, checks = torch.empty(0, 2), [[], []]
        try:
            if rows:  # with fewer rows than processes some have none that counts
                given = rows if self._only_judges and not self.eval_funcs else decode_columns(rows, dataset)
                pairs = [image for pair in zip(base, trained, strict=True) for image in pair]
                rewards_PN = self._compared(given, pairs)
                self._watch_comparison(given, pairs)
                checks = [met_criteria(self.eval_funcs, given, images) for images in (base, trained)]
        except Exception as error:  # whatever the functions of users raise: the others wait for this process
            failure = error
            self._metrics["eval"].clear()
            self._mode = "train"
        self._stop_together(failure, "The functions that another process evaluates with failed.")
        self._measure_pictures(base, trained)
        return rewards_PN, checks, self._flush_metrics()

    def _compared(self, rows: list[dict[str, Any]], pairs: list[Image.Image]) -> torch.Tensor:
        """Rewards `[P, 2]` of base and trained, which are side by side, by the judges where there are some."""
        is_judge = torch.tensor([isinstance(func, JudgeReward) for func in self.reward_funcs])
        judges = [func for func in self.reward_funcs if isinstance(func, JudgeReward)]
        follow_judges(self.screen, judges, len(rows), 2)
        rewards_NF = self._calculate_rewards(rows, pairs, num_generations=2)
        if is_judge.any():  # beside a judge, what other functions reward says nothing about its win rate
            rewards_NF[:, ~is_judge] = torch.nan
        return self._combine_rewards(rewards_NF, 2)

    def _watch_comparison(self, rows: list[dict[str, Any]], pairs: list[Image.Image]) -> None:
        """Measure what `watch_funcs`, which reward nothing, say of base and trained."""
        metrics = self._metrics["eval"]
        if self.watch_funcs:
            watched = self._watched(rows, pairs, num_generations=2)
            for name, of_func in zip(self.watch_func_names, watched.T, strict=True):
                won = (of_func[1::2] - of_func[::2]).sign() / 2 + 0.5
                metrics[f"watch/{name}/win_rate"] += won[~won.isnan()].tolist()

    def _measure_pictures(self, base: list[Image.Image], trained: list[Image.Image]) -> None:
        """How the pictures of all processes changed, whatever they show."""
        metrics, colors = self._metrics["eval"], []
        for images, suffix in ((base, "_of_base"), (trained, "")):
            for name, values in picture_statistics(images).items():
                metrics[f"pictures/{name}{suffix}"] += values
            colors.append(sum(gather_object([color_histogram(images)])))
        metrics["pictures/histogram_distance"].append(histogram_distance(*colors))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        name = self.args.metric_for_best_model
        if name is not None and self._best_metric() not in metrics:
            # without any verdict there is no win rate; Trainer would end training here with a KeyError
            logger.warning(
                "The evaluation after step %d has no %s, by which the best model is chosen, and counts for nothing there. "
                "It has %s.",
                self.state.global_step,
                name,
                ", ".join(metrics),
            )
            return False
        return super()._determine_best_metric(metrics, trial)
