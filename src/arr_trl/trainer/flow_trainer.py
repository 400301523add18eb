"""What every trainer of a flow-matching pipeline does: load it, put an adapter on it, evaluate, log, write the release."""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from PIL import Image
from torch.distributed.fsdp import FSDPModule
from transformers import TrainerCallback
from trl.trainer.base_trainer import _BaseTrainer

from ..evaluation import EvaluationResults
from ..judges import JudgeFuture, JudgeReward, MeanOf
from ..lazy import without_remarks
from ..objectives import combine_rewards
from ..policies import Conditioning
from ..release import save_adapter, write_model_card
from ..rewards import RewardFunc, call, columns_of, get_callable_name, read_rewards
from ..runtime import ResumableTrainer
from ..runtime.process_state import load_state, state_file
from ..runtime.profiling import ProfileCallback
from ..runtime.sharding import shard_between_forwards
from ..shipped import place_of
from .base_comparison import BaseComparison
from .buffer import Buffer, conditioning_of
from .card import adapter_card, first_row
from .checks import check_arguments, check_family, check_placement
from .ema import EMACallback, average_in, released_weights
from .evaluation import means_over_processes
from .flow_config import FlowConfig
from .frozen_adapters import REFERENCE, load_frozen_copies, save_frozen_copies, use_frozen_copy
from .hacking import HackingCallback
from .measured import numbers
from .resume_settings import check_resuming, fixed_settings, identity_of
from .screen import as_table
from .trainable import Model, adapter_to_train, load_base, move_to_device, name_of, with_adapter
from .watch import watch


logger = logging.getLogger(__name__)


class FlowTrainer(BaseComparison, ResumableTrainer, _BaseTrainer):
    """
    Base of the trainers here. It makes the transformer of a pipeline trainable, compares it with its base, and writes
    what is released. A subclass gives `compute_loss`, and what becomes of its rows. [`RPOTrainer`] explains the arguments.
    """

    _tag_names = ["arr_trl"]
    _config_class: type[FlowConfig] = FlowConfig
    # The transformer's forward takes no `**kwargs`, and `compute_loss` returns the mean of its micro-batch.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: Model,
        reward_funcs: RewardFunc | list[RewardFunc],
        args: FlowConfig | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | None = None,
        eval_funcs: Callable | list[Callable] | None = None,
        peft_config: LoraConfig | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
        watch_funcs: RewardFunc | list[RewardFunc] | None = None,
    ):
        args = args or self._config_class(output_dir=self._name)
        model = place_of(model) if isinstance(model, str) else model
        self.reward_funcs = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
        self.reward_func_names = [get_callable_name(f) for f in self.reward_funcs]
        self.eval_funcs = eval_funcs if isinstance(eval_funcs, list) else [eval_funcs] if eval_funcs else []
        self.watch_funcs = watch_funcs if isinstance(watch_funcs, list) else [watch_funcs] if watch_funcs else []
        self.watch_func_names = [get_callable_name(f) for f in self.watch_funcs]
        asked = [*self.reward_funcs, *self.watch_funcs]
        self._compared_by: list[Callable] = []  # in evaluations, beside them
        self._only_judges = all(isinstance(f, JudgeReward) for f in asked)  # which take no other columns
        peft_config, start = adapter_to_train(model, args, peft_config)

        self._check_arguments(model, args, train_dataset, eval_dataset, peft_config)
        self._resumable = check_resuming(model, args, peft_config)
        self._check_family(model, args, train_dataset, eval_dataset)
        self._check_repositories(args)

        self.policy = load_base(model, args)
        self.base_model = name_of(self.policy)
        peft_model = with_adapter(self.policy, args, peft_config, start)
        # pictures times denoising steps that went through the transformer, wherever they came from
        self.transformer_forwards = 0
        self.policy.pipeline.transformer.register_forward_pre_hook(self._count_forward, with_kwargs=True)
        with without_remarks():  # of what accelerate imports
            super().__init__(
                model=peft_model,
                args=args,
                data_collator=list,
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                callbacks=callbacks,
                optimizers=optimizers,
            )
        move_to_device(self.policy, self.model, args, self.accelerator)
        if args.ema_decay is not None:
            self.add_callback(EMACallback())
        if args.profile:
            self.add_callback(ProfileCallback(Path(args.output_dir) / "profile"))
        self.add_callback(HackingCallback())
        watch(self)
        self._begin_records()

    def _check_arguments(
        self,
        model: Model,
        args: FlowConfig,
        train_dataset: Dataset | IterableDataset | None,
        eval_dataset: Dataset | None,
        peft_config: LoraConfig,
    ) -> None:
        """Refuse, before anything is loaded, a run that could not end well."""
        check_arguments(
            type(self).__name__,
            args,
            self.reward_funcs,
            self.reward_func_names,
            self.eval_funcs,
            self.watch_funcs,
            train_dataset,
            eval_dataset,
            peft_config,
        )
        check_placement(model, args)

    def _check_family(
        self,
        model: Model,
        args: FlowConfig,
        train_dataset: Dataset | IterableDataset,
        eval_dataset: Dataset | None,
    ) -> None:
        """Refuse what does not go with the model's family, of which a configuration file tells."""
        check_family(model, args, self.eval_funcs, train_dataset, eval_dataset)

    def _begin_records(self) -> None:
        """What is counted and measured from here on."""
        self._mode = "train"
        self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        self.metric_totals = defaultdict(float)  # sums of everything reward functions logged over the run
        self._extra_logs = defaultdict(list)
        self._dataset_names: list[str] = []
        self._card_row = first_row(self.train_dataset if self.eval_dataset is None else self.eval_dataset)
        self.evaluation: EvaluationResults | None = None
        self._evaluated = (0, True)  # the step whose weights it is of, and whether it is on `eval_dataset`
        self._loaded_step: int | None = None  # of the best weights, once they are loaded
        self._gallery: list[dict[str, str]] = []
        # of the whole training, also when it was interrupted
        self._train_seconds: float | None = None
        self._train_forwards = 0
        self._train_started = (0.0, 0)

    def _send_telemetry(self) -> None:
        # TRL's reads `model.config.model_type`, which diffusers' models do not have; ours sends nothing.
        return

    def batch_arithmetic(self) -> str:
        """What an optimizer step consists of, as a small table: a line for each part, its name before it."""
        return as_table(self._arithmetic())

    def _arithmetic(self) -> list[tuple[str, str]]:
        """The lines of [`~FlowTrainer.batch_arithmetic`]."""
        args, processes = self.args, self.accelerator.num_processes
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
        return [("optimizer step", f"{rows} rows" + (f" on {processes} devices" if processes > 1 else ""))]

    def passes_per_step(self) -> float | None:
        """Forwards and backwards of the transformer for an optimizer step, one for each picture, where they are counted."""
        return None

    def _count_forward(self, module, args, kwargs) -> None:
        # the latents, a batch or a list of rows, come first in the transformers of diffusers, whatever they are called
        self.transformer_forwards += len(next(iter([*args, *kwargs.values()])))

    # Velocities

    def _guidance_in_training(self) -> float:
        """The scale at which the loss takes velocities."""
        return self.args.guidance_scale

    def _without_cfg(self) -> float:
        """The scale at which there is no classifier-free guidance; any other guidance stays as it is."""
        scale = self.args.guidance_scale
        return self.policy.cfg_off_scale if self.policy.uses_cfg(scale) else scale

    def _velocity(
        self, model: torch.nn.Module, latents: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """The velocity `[B, L, C]` that is trained, with gradient."""
        return self.policy.velocity(model, latents, sigma, conditioning, self._guidance_in_training())

    def _reference_velocity(
        self, model: torch.nn.Module, latents: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """That of the reference, without gradient."""
        copy = REFERENCE if self.args.keeps_reference else None
        with torch.no_grad(), use_frozen_copy(self.accelerator.unwrap_model(model), copy):
            return self._velocity(model, latents, sigma, conditioning)

    def _velocity_of_groups(
        self, model: torch.nn.Module, latents: torch.Tensor, inputs: Buffer, velocity: Callable | None = None
    ) -> torch.Tensor:
        """Velocities `[R, n, L, C]` of the candidates of each row, by `velocity`, the trained one by default."""
        n = latents.shape[1]
        conditioning = {name: t.repeat_interleave(n, 0) for name, t in conditioning_of(inputs).items()}
        sigma = inputs["sigma"].repeat_interleave(n)
        return (velocity or self._velocity)(model, latents.flatten(0, 1), sigma, conditioning).view_as(latents)

    # Rewards

    def _calculate_rewards(
        self,
        rows: list[dict[str, Any]],
        images: list[Image.Image],
        num_generations: int,
        judging: Mapping[JudgeReward, list[JudgeFuture]] | None = None,
    ) -> torch.Tensor:
        """
        Rewards `[P·n, F]` of all reward functions, NaN where one gave none. `judging` holds what is asked already.
        """
        judging = judging or {}
        columns = self._columns(rows, num_generations) | {"log_extra": self._log_extra, "log_metric": self._log_metric}
        rewards_NF = torch.full((len(images), len(self.reward_funcs)), torch.nan)
        self._extra_logs.clear()
        for i, (func, name) in enumerate(zip(self.reward_funcs, self.reward_func_names, strict=True)):
            if func in judging:
                output = func.collect(judging[func], self._log_metric, self._log_extra)
            else:
                output = call(func, completions=images, **columns)
            rewards_NF[:, i] = read_rewards(output, name, len(images))
        return rewards_NF

    def _columns(self, rows: list[dict[str, Any]], num_generations: int) -> dict[str, Any]:
        """What reward functions get beside the pictures, for each of them."""
        of_rows = columns_of([row for row in rows for _ in range(num_generations)])
        return of_rows | {"num_generations": num_generations, "trainer_state": self.state}

    def _watched(self, rows: list[dict[str, Any]], images: list[Image.Image], num_generations: int) -> torch.Tensor:
        """What `watch_funcs` say of the pictures, `[P·n, W]`, which nothing is trained on."""
        columns = self._columns(rows, num_generations) | {"log_extra": _drop, "log_metric": _drop}
        outputs = [call(func, completions=images, **columns) for func in self.watch_funcs]
        read = [read_rewards(o, name, len(images)) for o, name in zip(outputs, self.watch_func_names, strict=True)]
        return torch.stack(read, 1)

    def _log_extra(self, column: str, values: list) -> None:
        self._extra_logs[column].extend(values)

    def _log_metric(self, name: str, value: float) -> None:
        self._metrics[self._mode][name] += value.values if isinstance(value, MeanOf) else [value]
        self.metric_totals[name] += value

    def _combine_rewards(self, rewards_NF: torch.Tensor, num_generations: int) -> torch.Tensor:
        """Weighted sum over reward functions, `[P, n]`; see [`~arr_trl.objectives.combine_rewards`]."""
        weights_F = torch.tensor(self.args.reward_weights or [1.0] * len(self.reward_funcs))
        return combine_rewards(rewards_NF, num_generations, weights_F)

    # Logging

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log({**logs, **self._flush_metrics()}, start_time)

    def _log_follows(self) -> bool:
        """Whether what is measured in this step is logged at its end, and not with those of the steps after it."""
        return (self.state.global_step + 1) % self.state.logging_steps == 0

    def _flush_metrics(self) -> dict[str, float]:
        """The means, over all processes, of what was measured since the last time."""
        measured, self._metrics[self._mode] = self._metrics[self._mode], defaultdict(list)
        return means_over_processes(measured)

    # Training and saving

    def _prepare_for_training(self, *args, **kwargs):
        model, dataloader = super()._prepare_for_training(*args, **kwargs)
        if isinstance(model, FSDPModule):
            shard_between_forwards(model)
        return model, dataloader

    def train(self, *args, **kwargs):
        self._train_started = (time.perf_counter(), self.transformer_forwards)
        self._loaded_step = None
        with self.screen.showing():
            output = super().train(*args, **kwargs)
        self._train_seconds, self._train_forwards = self._spent()
        return output

    def _spent(self) -> tuple[float, int]:
        """Seconds and forwards of training so far."""
        started, forwards = self._train_started
        return time.perf_counter() - started, self.transformer_forwards - forwards

    @property
    def adapter_folder(self) -> Path:
        """Where [`~FlowTrainer.save_model`] puts the adapter."""
        return Path(self.args.output_dir) / self.args.adapter_subfolder

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        model = self.accelerator.unwrap_model(self.model)
        if self._writing is None:
            with released_weights(model):
                super().save_model(output_dir, _internal_call)
            return
        super().save_model(output_dir, _internal_call)  # of a checkpoint, also of one that holds the model alone
        save_frozen_copies(model, output_dir, self.args.should_save)

    def _release_checkpoint(self, checkpoint: Path) -> None:
        average = average_in(checkpoint)
        if not average:
            super()._release_checkpoint(checkpoint)
            return
        model = self.accelerator.unwrap_model(self.model)
        save_adapter(model, self.adapter_folder, self.policy.pipeline_class, state_dict=average)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._loaded_step = int(Path(self.state.best_model_checkpoint).name.rpartition("-")[2])
        load_frozen_copies(self.accelerator.unwrap_model(self.model), self.state.best_model_checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """
        Write the adapter: to its subfolder when `output_dir` is the run's own, so that several adapters can share a
        repository, and to the folder itself for checkpoints.
        """
        if not self.args.should_save:
            return
        output_dir = Path(output_dir or self.args.output_dir)
        folder = self.adapter_folder if output_dir == Path(self.args.output_dir) else output_dir
        model = self.accelerator.unwrap_model(self.model)
        save_adapter(model, folder, self.policy.pipeline_class, state_dict=state_dict)

    def create_model_card(
        self,
        model_name: str | None = None,
        dataset_name: str | list[str] | None = None,
        tags: str | list[str] | None = None,
    ) -> None:
        """
        Write README.md to `output_dir`, or bring this adapter's section of it up to date.

        Args:
            model_name (`str`, *optional*): unused; the sections are named after the adapters.
            dataset_name (`str` or `list[str]`, *optional*): datasets on the Hub that the prompts came from.
            tags (`str` or `list[str]`, *optional*): unused; the tags follow from what the card holds.
        """
        if not self.is_world_process_zero():
            return
        if dataset_name is not None:  # kept for the cards of later pushes
            self._dataset_names = [dataset_name] if isinstance(dataset_name, str) else dataset_name
        belongs = self._evaluated[0] == self._weights_step  # to the weights that are released with this card
        card = adapter_card(
            self.args,
            self.policy,
            self.model.peft_config["default"],
            self.reward_funcs,
            self.state.log_history,
            self.accelerator.num_processes,
            type(self),
            self._card_row,
            self._compared_by,
            datasets=self._dataset_names,
            results=self.evaluation if belongs else None,
            train_seconds=self._train_seconds,
            released=self.released if self.state.global_step else None,
            gallery=self._gallery if belongs else [],
            **self._card_facts(),
        )
        write_model_card(self.args.output_dir, card)

    def _card_facts(self) -> dict[str, Any]:
        """What else the card says of a run of this kind, as [`~arr_trl.release.AdapterCard`] takes it."""
        return {}

    # What a checkpoint holds beside the adapter and the optimizer

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """As of when it is first asked for: files that change while a run goes on are not what it started from."""
        return identity_of(self.args, self.base_model)

    def _fixed_settings(self) -> dict[str, Any]:
        return fixed_settings(self.args, self.model.peft_config["default"], self._identity)

    def _sealed_settings(self) -> dict[str, Any]:
        holds_rollout = self._holds_rollout()
        return fixed_settings(self.args, self.model.peft_config["default"], self._identity, holds_rollout)

    def _holds_rollout(self) -> bool:
        """Whether a checkpoint of this moment holds a rollout that is still trained on."""
        return False

    def _owner_state(self) -> dict[str, Any]:
        return {
            "metrics": {name: list(values) for name, values in self._metrics["train"].items()},
            "metric_totals": {name: float(value) for name, value in self.metric_totals.items()},
            "loss": (self._tr_loss.clone(), self._globalstep_last_logged),
        }

    def _restore_owner_state(self, state: dict[str, Any]) -> None:
        self._metrics["train"] = defaultdict(list, {name: list(values) for name, values in state["metrics"].items()})
        self.metric_totals = defaultdict(float, state["metric_totals"])
        loss, self._globalstep_last_logged = state["loss"]
        self._tr_loss.copy_(loss)

    def _process_state(self) -> dict[str, Any]:
        """All that this process keeps in a checkpoint; see [`~arr_trl.runtime.process_state.load_state`]."""
        state = self._owner_state() | {"spent": self._spent(), "processes": self.args.world_size}
        # plain numbers, whatever reward functions log: nothing else is read back
        return state | {"metrics": {name: numbers(values) for name, values in state["metrics"].items()}}

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        torch.save(self._process_state(), state_file(output_dir, self.args.process_index))

    def _load_process_state(self, checkpoint: str | os.PathLike, device: torch.device | str = "cpu") -> dict[str, Any]:
        return load_state(checkpoint, self.args.process_index, self.args.world_size, device)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        load_frozen_copies(self.accelerator.unwrap_model(self.model), checkpoint)
        state = self._load_process_state(checkpoint, self.accelerator.device)
        self._restore_owner_state(state)
        seconds, forwards = state["spent"]
        self._train_started = (self._train_started[0] - seconds, self._train_started[1] - forwards)


def _drop(name: str, value: Any) -> None:
    """Takes what a function logs that is only watched."""
