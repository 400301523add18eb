"""What every trainer of a flow-matching pipeline does: load it, make it trainable, evaluate, log, write the release."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from torch.distributed.fsdp import FSDPModule
from transformers import TrainerCallback
from trl.trainer.base_trainer import _BaseTrainer

from ..data import sizes_of_rows
from ..evaluation import EvaluationResults
from ..judges import JudgeReward
from ..lazy import without_remarks
from ..policies import Conditioning
from ..rewards import RewardFunc, get_callable_name
from ..runtime import ResumableTrainer
from ..runtime.full_weights import add_copies_of_shards
from ..runtime.profiling import ProfileCallback
from ..runtime.sharding import shard_between_forwards
from ..shipped import place_of
from .base_comparison import BaseComparison
from .buffer import Buffer, conditioning_of
from .card import first_row
from .checks import check_arguments, check_family, check_placement
from .ema import EMACallback
from .evaluation import means_over_processes
from .flow_config import FlowConfig
from .frozen_adapters import REFERENCE
from .frozen_copies import use_frozen_copy
from .hacking import HackingCallback
from .released_adapter import ReleasedAdapter
from .resume_settings import check_resuming
from .rewarded_pictures import RewardedPictures
from .run_state import RunState
from .screen import as_table
from .trainable import Model, adapter_to_train, load_base, make_trainable, move_to_device, name_of
from .watch import watch


logger = logging.getLogger(__name__)


class FlowTrainer(BaseComparison, RewardedPictures, RunState, ReleasedAdapter, ResumableTrainer, _BaseTrainer):
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

        self._row_sizes = self._sizes_of_rows(train_dataset, eval_dataset)
        self.policy = load_base(model, args, self._row_sizes)
        self.base_model = name_of(self.policy)
        self._knows_base = args.use_peft or self._needs_base(args, eval_dataset)
        trained = make_trainable(self.policy, args, peft_config, start, keeps_base=self._knows_base)
        # pictures times denoising steps that went through the transformer, wherever they came from
        self.transformer_forwards = 0
        self.policy.pipeline.transformer.register_forward_pre_hook(self._count_forward, with_kwargs=True)
        with without_remarks():  # of what accelerate imports
            super().__init__(
                model=trained,
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
        peft_config: LoraConfig | None,
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

    def _sizes_of_rows(self, train_dataset: Dataset | IterableDataset, eval_dataset: Dataset | None) -> dict[str, int]:
        """The sizes that rows ask for, by words that say which row does."""
        return sizes_of_rows(train_dataset, "train_dataset") | sizes_of_rows(eval_dataset, "eval_dataset")

    def _needs_base(self, args: FlowConfig, eval_dataset: Dataset | None) -> bool:
        """Whether something compares with the base, of which a copy is kept where all weights are trained."""
        return eval_dataset is not None or (args.needs_reference and not args.keeps_reference)

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

    # Logging

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log({**logs, **self._flush_metrics()}, start_time)

    def _measures_distance(self) -> bool:
        """Whether this step tells how far what is trained has come from its reference, without being held to it."""
        return self._log_follows() and (self._knows_base or self.args.keeps_reference)

    def _log_follows(self) -> bool:
        """Whether what is measured in this step is logged at its end, and not with those of the steps after it."""
        return (self.state.global_step + 1) % self.state.logging_steps == 0

    def _flush_metrics(self) -> dict[str, float]:
        """The means, over all processes, of what was measured since the last time."""
        measured, self._metrics[self._mode] = self._metrics[self._mode], defaultdict(list)
        return means_over_processes(measured)

    # Training

    def _prepare_for_training(self, *args, **kwargs):
        model, dataloader = super()._prepare_for_training(*args, **kwargs)
        if isinstance(model, FSDPModule):
            shard_between_forwards(model)
            add_copies_of_shards(model)
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
