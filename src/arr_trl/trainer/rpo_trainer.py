"""Rubric Policy Optimization: candidates are sampled, compared by reward functions, and the preferred ones reinforced."""

import asyncio
import inspect
import logging
import math
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import AutocastKwargs, gather_object
from datasets import Dataset, IterableDataset
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch.distributed.fsdp import FSDPModule
from torch.profiler import record_function
from torch.utils.data import DataLoader, Sampler
from transformers import PretrainedConfig, TrainerCallback, set_seed
from trl.trainer.utils import get_callable_name

from ..chat.local import whole_weights
from ..data import (
    SOURCE_COLUMN,
    RepeatSampler,
    RepeatStream,
    RowError,
    check_sources,
    decode_sources,
    load_image,
    undecoded,
)
from ..evaluation import EvaluationResults, success_rates, win_rate_from_rewards
from ..judges import JudgeFuture, JudgeReward, JudgeRow
from ..objectives import gaussian_kl, ppo_clip_loss, rpo_advantages, velocity_kl
from ..policies import FlowPolicy, load_policy, policy_class_of, policy_for
from ..release import load_weights, read_adapter, save_adapter, write_model_card
from ..sampling import log_prob, transition
from .arithmetic import describe
from .background_push import create_repo
from .card import adapter_card
from .checks import check_arguments, check_resuming, fixed_settings
from .comparison import check_pictures, draw_rows, metrics_of, save_sheet, share_of
from .compilation import compile_blocks
from .completions import log_completions
from .completions_repo import CompletionsRepo
from .memory import BlockOffload, compress_base, leave_out_of_ddp
from .precision import compute_in_base_precision
from .profiling import ProfileCallback
from .reference import add_reference, reference_policy
from .resumable_trainer import ResumableTrainer
from .rewards import columns_of, read_rewards
from .rollout_state import load_state, state_file
from .rollouts import (
    Buffer,
    Sampled,
    conditioning_of,
    draw_window,
    join_buffers,
    place_random,
    prompt_generators,
    sample_candidates,
    split_buffer,
    training_guidance,
)
from .rpo_config import RPOConfig
from .sharding import is_left_out, set_precision, shard_between_forwards
from .watch import watch


logger = logging.getLogger(__name__)

RewardFunc = Callable[..., list[float | None]]


class RPOTrainer(ResumableTrainer):
    """
    Trainer for Rubric Policy Optimization (RPO), proposed in [Auto-Rubric as
    Reward](https://huggingface.co/papers/2605.08354), for the flow-matching pipelines of diffusers.

    Example:

    ```python
    from arr_trl import RPOConfig, RPOTrainer, Rubric, RubricJudge
    from datasets import load_dataset

    judge = RubricJudge(
        rubric=Rubric.load("rubric.json"), model="Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1"
    )
    trainer = RPOTrainer(
        model="black-forest-labs/FLUX.1-dev",
        reward_funcs=judge,
        args=RPOConfig(output_dir="ARR-FLUX.1-dev"),
        train_dataset=load_dataset("json", data_files="prompts.jsonl", split="train"),
    )
    trainer.train()
    ```

    Args:
        model (`str`, [`~diffusers.DiffusionPipeline`] or [`FlowPolicy`]):
            What is trained: a model id on the Hub, a local folder, a pipeline, or a policy for one.
        reward_funcs (`RewardFunc` or `list[RewardFunc]`):
            One or more callables `f(prompts, completions, **columns) -> list[float | None]` in TRL's protocol, sync or
            async. `completions` are PIL images, the candidates of a prompt adjacent; the other columns of the dataset
            come as keyword arguments, with `num_generations`, `trainer_state`, `log_extra` and `log_metric`. Only the
            order of the rewards within a prompt counts. `None` means that there is no answer: the function is left out
            for that prompt, and a prompt that no function answered is masked.
        args ([`RPOConfig`], *optional*):
            Configuration. If `None`, a default one is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Rows with a `prompt` column of text. Pipelines that edit pictures need a `source_image` column, with a
            picture of any kind that [`~arr_trl.data.load_image`] takes, or a list of them for several references.
            Other columns pass through to the reward functions.
        eval_dataset ([`~datasets.Dataset`], *optional*):
            Rows on which the trained model is compared with the base, under fixed noise.
        eval_funcs (`Callable` or `list[Callable]`, *optional*):
            Ground truths, called like reward functions; each returns one `dict[str, bool]` per image, the criteria it
            checked. Reported as success rates of base and trained.
        peft_config ([`~peft.LoraConfig`], *optional*):
            The adapter. Defaults to LoRA of rank 16 and alpha 32. Without `target_modules` those of the family's
            published adapter are taken. Not with `adapter_path`, whose adapter has a configuration of its own.
        callbacks (`list` of [`~transformers.TrainerCallback`], *optional*):
            Callbacks to customise the training loop.
        optimizers (`tuple`, *optional*, defaults to `(None, None)`):
            Optimizer and learning-rate scheduler.
    """

    _tag_names = ["arr_trl", "rpo"]
    _name = "RPO"
    _paper = {
        "title": "Auto-Rubric as Reward: From Implicit Preference to Explicit Generative Criteria",
        "id": "2605.08354",
    }
    # The transformer's forward takes no `**kwargs`, and `compute_loss` returns the mean of its micro-batch.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: str | DiffusionPipeline | FlowPolicy,
        reward_funcs: RewardFunc | list[RewardFunc],
        args: RPOConfig | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | None = None,
        eval_funcs: Callable | list[Callable] | None = None,
        peft_config: LoraConfig | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
    ):
        if args is None:
            args = RPOConfig(output_dir="RPO")
        self.reward_funcs = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
        self.reward_func_names = [get_callable_name(f) for f in self.reward_funcs]
        self.eval_funcs = eval_funcs if isinstance(eval_funcs, list) else [eval_funcs] if eval_funcs else []
        if args.adapter_path is not None and peft_config is not None:
            raise ValueError(
                "`adapter_path` names an adapter with a configuration of its own; leave `peft_config` out."
            )
        model_init_kwargs = args.model_init_kwargs or {}
        adapter = None
        if args.adapter_path is not None:
            pipeline_class = policy_class_of(model, **model_init_kwargs).pipeline_class
            peft_config, adapter = read_adapter(args.adapter_path, pipeline_class, args.hub_token)
        peft_config = peft_config or LoraConfig(r=16, lora_alpha=32)
        train_dataset, eval_dataset = (d if d is None else undecoded(d) for d in (train_dataset, eval_dataset))
        check_arguments(
            args,
            self.reward_funcs,
            self.reward_func_names,
            self.eval_funcs,
            train_dataset,
            eval_dataset,
            peft_config,
        )
        self._resumable = check_resuming(args, peft_config)
        if eval_dataset is not None:
            # with an empty picture: the mistakes of `eval_funcs` would show after training only
            blank = Image.new("RGB", (args.width, args.height), "white")
            check_pictures(self.eval_funcs, decode_sources([next(iter(eval_dataset))]), [blank])
        if policy_class_of(model, **model_init_kwargs).editing:
            check_sources(train_dataset, "train_dataset")
            if eval_dataset is not None:
                check_sources(eval_dataset, "eval_dataset", load_image)  # all of it is going to be read
        self._check_repositories(args)

        sizes = {name: getattr(args, name) for name in ("height", "width", "eval_height", "eval_width")}
        if isinstance(model, str | os.PathLike):
            init_kwargs = {"dtype": torch.bfloat16 if args.bf16 else torch.float32, **model_init_kwargs}
            with whole_weights():
                self.policy = load_policy(str(model), sizes, args.policy_kwargs, **init_kwargs)
        elif isinstance(model, FlowPolicy):
            self.policy = model
        else:
            self.policy = policy_for(model, **args.policy_kwargs)
        self.policy.check_sizes(sizes, self.policy.size_multiple)
        self.base_model = str(self.policy.pipeline.name_or_path or type(self.policy.pipeline).__name__)
        if args.adapter_subfolder is None:
            args.adapter_subfolder = f"ARR-{Path(self.base_model).name}"

        pipeline = self.policy.pipeline
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                component.requires_grad_(False)
        if peft_config.target_modules is None:
            peft_config.target_modules = list(self.policy.target_modules)
        transformer = pipeline.transformer
        if args.gradient_checkpointing:
            # diffusers' own switch: Trainer calls a method that only transformers' models have
            transformer.enable_gradient_checkpointing()
            args.gradient_checkpointing = args.activation_checkpointing = False
        compress_base(transformer, args.base_precision, self.policy.dtype)
        set_seed(args.seed)  # Trainer does so too late for the adapter's initial weights
        # `get_peft_model` rather than `add_adapter`: it keeps the adapter in float32 and saves the adapter alone
        peft_model = get_peft_model(transformer, peft_config)
        if adapter is not None:
            load_weights(peft_model, adapter, "default", args.adapter_path)
            if args.reference == "adapter":
                add_reference(peft_model, adapter, args.adapter_path)
        if args.base_precision is not None:
            leave_out_of_ddp(peft_model)
        if args.offload_blocks:
            BlockOffload(transformer, args.device)
        if args.compile_blocks:
            compile_blocks(transformer)
        # PEFT looks for the name where only transformers' models keep it
        peft_model.peft_config["default"].base_model_name_or_path = self.base_model
        # Reporters and DeepSpeed's "auto" values read a transformers config; this shadows only the wrapper's attribute.
        peft_model.config = PretrainedConfig(hidden_size=self.policy.hidden_size)
        peft_model.config._name_or_path = self.base_model

        # Counts pictures times denoising steps that went through the transformer, wherever they came from.
        self.transformer_forwards = 0
        transformer.register_forward_pre_hook(self._count_forward, with_kwargs=True)

        super().__init__(
            model=peft_model,
            args=args,
            data_collator=list,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self.policy.to(
            self.accelerator.device,
            offload_encoders=args.offload_encoders,
            move_transformer=not self.accelerator.is_fsdp2,  # each block goes there when it is sharded
        )
        if args.prompt_cache_dir is not None:
            self.policy.keep_encodings(args.prompt_cache_dir)
        if args.offload_blocks and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ValueError(
                "offload_blocks=True is for one process, or several with `--accelerate_config ddp`. FSDP and DeepSpeed "
                "have settings of their own that offload what they shard: `fsdp_offload_params`, `offload_param`."
            )
        if args.base_precision is not None and self.is_fsdp_enabled:
            raise ValueError(
                f"base_precision={args.base_precision!r} is for one process, or several with `--accelerate_config ddp`: "
                "FSDP does not shard weights of 8 bits. Leave it out, or use ddp."
            )
        if self.policy.dtype == torch.float16 and self.accelerator.scaler is None and not self.is_deepspeed_enabled:
            raise ValueError(
                "The transformer is in float16, in which most gradients of latents are rounded to 0 unless they are scaled. "
                "Load it in bfloat16, or where the GPU has none, set fp16=True and bf16=False."
            )
        if self.policy.dtype != torch.float32 and not self.is_deepspeed_enabled:  # DeepSpeed rounds the adapter itself
            compute_in_base_precision(peft_model, self.policy.dtype)
            self.accelerator.autocast_handler = AutocastKwargs(enabled=False)
        if is_left_out(self.accelerator) and self.is_world_process_zero():
            logger.warning(
                "FSDP was asked for, and accelerate shards on GPUs alone: on these CPUs every process holds the whole "
                "base, as with `--accelerate_config ddp`."
            )
        if self.accelerator.is_fsdp2:
            set_precision(self.accelerator, self.policy.dtype)

        if args.profile:
            self.add_callback(ProfileCallback(Path(args.output_dir) / "profile"))

        # On-policy means that the optimizer does not move between a rollout and the last loss computed on it.
        self._on_policy = (
            args.gradient_accumulation_steps % (args.steps_per_generation * args.num_iterations) == 0
            and not args.pipelined_judge
        )
        if args.cfg == "rollout" and self.policy.uses_cfg(args.guidance_scale) and not self._on_policy:
            raise ValueError(
                "cfg='rollout' has no old log-probabilities, since another velocity drew the candidates: it needs one "
                "optimizer step per rollout. Set gradient_accumulation_steps to a multiple of steps_per_generation × "
                "num_iterations, or cfg to 'both' or 'off'."
            )
        watch(self, self._on_policy)
        self._step = 0  # micro-steps taken
        self._buffered_inputs: list[Buffer] = []
        self._pending: Sampled | list[Buffer] | None = None  # with `pipelined_judge`, what is trained on next
        self._stream: RepeatStream | None = None

        self._mode = "train"
        self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        self.metric_totals = defaultdict(float)  # sums of everything reward functions logged over the run
        self._extra_logs = defaultdict(list)
        self._completions_repo = None
        if args.log_completions_hub_repo is not None and self.is_world_process_zero():
            self._completions_repo = CompletionsRepo(
                args.log_completions_hub_repo,
                Path(args.output_dir) / "completions",
                args.adapter_subfolder,
                args.hub_private_repo,
                args.hub_token,
            )
        self._dataset_names: list[str] = []
        self.evaluation: EvaluationResults | None = None
        # of the whole training, also when it was interrupted
        self._train_seconds: float | None = None
        self._train_forwards = 0
        self._train_started = (0.0, 0)

    def _check_repositories(self, args: RPOConfig) -> None:
        super()._check_repositories(args)
        if args.log_completions_hub_repo is not None and args.process_index == 0:
            args.log_completions_hub_repo = create_repo(
                args.log_completions_hub_repo, args.hub_private_repo, args.hub_token, kind="dataset"
            )

    def _send_telemetry(self) -> None:
        # TRL's reads `model.config.model_type`, which diffusers' models do not have; ours sends nothing.
        return

    def _count_forward(self, module, args, kwargs) -> None:
        # the latents, a batch or a list of rows, come first in the transformers of diffusers, whatever they are called
        self.transformer_forwards += len(next(iter([*args, *kwargs.values()])))

    # Data

    def get_train_dataloader(self) -> DataLoader:
        dataset = self.train_dataset
        if isinstance(dataset, IterableDataset):
            dataset = self._stream = RepeatStream(
                dataset,
                self._global_prompts(),
                self._repeats(),
                self.args.shuffle_dataset,
                self.args.seed,
                self.args.shuffle_buffer_size,
            )
            if self.last_checkpoint is not None:
                self._stream.load_state_dict(self._load_rollout_state(self.last_checkpoint)["stream"])
        return self._get_dataloader(
            dataset=dataset,
            description="Training",
            batch_size=self.args.prompts_per_rollout,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        dataset = self.train_dataset if dataset is None else dataset
        return RepeatSampler(
            len(dataset), self._global_prompts(), self._repeats(), self.args.shuffle_dataset, self.args.seed
        )

    def _global_prompts(self) -> int:
        return self.args.prompts_per_rollout * self.accelerator.num_processes

    def _repeats(self) -> int:
        return self.args.steps_per_generation * self.args.num_iterations

    def batch_arithmetic(self) -> str:
        """What one rollout and one optimizer step consist of, in words."""
        judges = [func for func in self.reward_funcs if isinstance(func, JudgeReward)]
        questions = sum(judge.questions_per_row(self.args.num_generations) for judge in judges)
        return describe(self.args, self.accelerator.num_processes, questions, self.policy)

    # Rollout

    def _prepare_inputs(self, rows: list[dict[str, Any]]) -> Buffer:
        # Called at each micro-step with the prompts of the current rollout, which come as often as it is trained on.
        if self._step % self._repeats() == 0 or not self._buffered_inputs:
            sampled = self._sample(rows)
            if not self.args.pipelined_judge:
                self._buffered_inputs = self._score(sampled)
            else:
                previous, self._pending = self._pending, sampled
                self._buffered_inputs = self._masked(sampled) if previous is None else self._score(previous)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._step += 1
        return loss

    def _sample(self, rows: list[dict[str, Any]]) -> Sampled:
        """Candidates of the rows, which judges begin to read."""
        n = self.args.num_generations
        rows = self._usable(rows)
        place = self.args.seed, self._step // self._repeats()
        random = place_random(*place)
        window = draw_window(self.args, random)
        generators = prompt_generators(*place, self.accelerator.process_index * len(rows), len(rows))
        chunk = self.args.rollout_batch_size or len(rows)
        judges = [func for func in self.reward_funcs if isinstance(func, JudgeReward)]
        judging: dict[JudgeReward, list[JudgeFuture]] = {judge: [] for judge in judges}
        images, parts, decode_s = [], [], 0.0
        started = time.perf_counter()
        for start in range(0, len(rows), chunk):
            some = rows[start : start + chunk]
            with record_function("rollout/sample"):
                latents, part = sample_candidates(
                    self.policy, self.model_wrapped, some, window, self.args, generators[start : start + chunk]
                )
                if latents.device.type != "cpu":
                    torch.accelerator.synchronize()  # decoding would wait for the latents in any case
            decoding_at = time.perf_counter()
            with record_function("rollout/decode"):
                decoded = self.policy.decode(latents, self.args.height, self.args.width)
            decode_s += time.perf_counter() - decoding_at
            part["prompt"] += start
            # judges read these while the next chunk is sampled
            for judge in judges:
                judging[judge].append(judge.submit(_judge_rows(some, decoded, n)))
            images += decoded
            parts.append(part)
        self._metrics["train"]["rollout/sample_s"].append(time.perf_counter() - started - decode_s)
        self._metrics["train"]["rollout/decode_s"].append(decode_s)
        return Sampled(rows, images, parts, judging, random)

    def _score(self, sampled: Sampled | list[Buffer]) -> list[Buffer]:
        """What each micro-step trains on, once the reward functions have answered."""
        if isinstance(sampled, list):  # a checkpoint waited for them
            return sampled
        started = time.perf_counter()
        rows, images, failure = sampled.rows, sampled.images, None
        try:
            with record_function("rollout/reward"):
                rewards_NF = self._calculate_rewards(rows, images, self.args.num_generations, sampled.judging)
        except Exception as error:  # whatever the functions of users raise; what was trained is kept
            failure = error
        self._stop_together(failure, "The reward functions of another process failed.")
        advantages_PN = self._compute_advantages(rewards_NF)
        self._metrics["train"]["rollout/reward_s"].append(time.perf_counter() - started)
        self._log_rollout(rows, images, rewards_NF, advantages_PN)
        return self._batches(sampled, advantages_PN)

    def _masked(self, sampled: Sampled) -> list[Buffer]:
        """Nothing to train on yet: each micro-step has a loss of 0."""
        shape = len(sampled.rows), self.args.num_generations
        return self._batches(sampled, torch.full(shape, torch.nan, device=self.accelerator.device))

    def _batches(self, sampled: Sampled, advantages_PN: torch.Tensor) -> list[Buffer]:
        buffer = join_buffers(sampled.parts, advantages_PN)
        return split_buffer(buffer, self.args.steps_per_generation, sampled.random)

    def _usable(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with their sources decoded, once it is known that all of them can be encoded."""
        failure = None
        try:
            rows = decode_sources(rows)
            chunk = self.args.rollout_batch_size or len(rows)
            for start in range(0, len(rows), chunk):  # kept, so that sampling finds it done
                self.policy.encode(rows[start : start + chunk], self.args.height, self.args.width)
        except ValueError as error:
            failure = RowError(str(error))
        self._stop_together(failure, "A row of another process cannot be used.")
        return rows

    def _stop_together(self, failure: Exception | None, of_another: str) -> None:
        """End the run on all processes when one of them failed."""
        if self._largest(int(failure is not None)):
            failure = failure or RuntimeError(of_another)
            if self.accelerator.num_processes > 1:  # `train` keeps what was trained for one
                self._save_before_raising(failure)
            raise failure

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
        repeated = [row for row in rows for _ in range(num_generations)]
        columns = columns_of(repeated) | {
            "num_generations": num_generations,
            "trainer_state": self.state,
            "log_extra": self._log_extra,
            "log_metric": self._log_metric,
        }
        rewards = torch.full((len(images), len(self.reward_funcs)), torch.nan)
        self._extra_logs.clear()
        for i, (func, name) in enumerate(zip(self.reward_funcs, self.reward_func_names, strict=True)):
            if func in judging:
                output = func.collect(judging[func], self._log_metric, self._log_extra)
            else:
                output = func(completions=images, **columns)
            if inspect.isawaitable(output):
                output = asyncio.run(_wait_for(output))
            rewards[:, i] = read_rewards(output, name, len(images))
        return rewards

    def _log_extra(self, column: str, values: list) -> None:
        self._extra_logs[column].extend(values)

    def _log_metric(self, name: str, value: float) -> None:
        self._metrics[self._mode][name].append(value)
        self.metric_totals[name] += value

    def _combine_rewards(self, rewards_NF: torch.Tensor, num_generations: int) -> torch.Tensor:
        """
        Weighted sum over reward functions, `[P, n]`. A function that failed on one candidate is left out for the whole
        prompt, since the others could not be compared with it; without any function left the prompt is NaN.
        """
        weights = torch.tensor(self.args.reward_weights or [1.0] * len(self.reward_funcs))
        rewards_PNF = rewards_NF.view(-1, num_generations, len(self.reward_funcs))
        missing_PF = rewards_PNF.isnan().any(1)
        total_PN = torch.where(missing_PF[:, None], 0.0, rewards_PNF * weights).sum(-1)
        return torch.where(missing_PF.all(-1)[:, None], torch.nan, total_PN)

    def _compute_advantages(self, rewards_NF: torch.Tensor) -> torch.Tensor:
        """Advantages `[P, n]`, NaN where a prompt is masked. Override it to try another objective."""
        return rpo_advantages(
            self._combine_rewards(rewards_NF, self.args.num_generations),
            self.args.positive_reward,
            self.args.negative_reward,
            self.args.center_rewards,
        ).to(self.accelerator.device)

    def _log_rollout(
        self,
        rows: list[dict[str, Any]],
        images: list[Image.Image],
        rewards_NF: torch.Tensor,
        advantages_PN: torch.Tensor,
    ) -> None:
        metrics = self._metrics["train"]
        for i, name in enumerate(self.reward_func_names):
            metrics[f"rewards/{name}/mean"].append(rewards_NF[:, i].nanmean().item())
            metrics[f"rewards/{name}/missing_rate"].append(rewards_NF[:, i].isnan().float().mean().item())
        if rewards_NF.isnan().all():
            logger.warning(
                "No reward function answered for any of the %d prompts of this rollout, so nothing is learned from it.",
                len(rows),
            )
        metrics["rollout/decided_rate"].append((~advantages_PN.isnan().any(1)).float().mean().item())
        metrics["rollout/pixel_distance"].append(_pixel_distance(images, self.args.num_generations))
        if self.args.log_completions and self._logging_due():
            rewards = dict(zip(self.reward_func_names, rewards_NF.T.tolist(), strict=True))
            self._log_completions(
                rows, images, {**rewards, "advantage": advantages_PN.flatten().tolist(), **self._extra_logs}
            )

    def _log_completions(
        self, rows: list[dict[str, Any]], images: list[Image.Image], columns: dict[str, list]
    ) -> None:
        """The candidates of all processes, written by the main one."""
        shown = [{name: row[name] for name in ("prompt", SOURCE_COLUMN) if name in row} for row in rows]
        parts = gather_object([(shown, images, columns)])
        if not self.accelerator.is_main_process:
            return
        step = self.state.global_step
        log_completions(
            Path(self.args.output_dir) / "completions",
            step,
            [row for rows, _, _ in parts for row in rows],
            [image for _, images, _ in parts for image in images],
            {name: [value for _, _, columns in parts for value in columns.get(name, [])] for name in parts[0][2]},
            self.args.num_eval_samples,
            self.args.report_to,
            self.callback_handler.callbacks,
        )
        if self._completions_repo is not None:
            self._completions_repo.add(f"step_{step:06d}.parquet")

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        if self._completions_repo is not None:
            self._completions_repo.finish()

    def _logging_due(self) -> bool:
        return self.state.global_step % max(int(self.args.logging_steps), 1) == 0

    # Loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Buffer,
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> torch.Tensor:
        args = self.args
        latents, sigma, sigma_next = inputs["latents"], inputs["sigma"], inputs["sigma_next"]
        active_RK = ~inputs["advantages"].isnan()
        conditioning = conditioning_of(inputs)
        guidance_scale = training_guidance(self.policy, args)
        velocity = self.policy.velocity(model, latents, sigma, conditioning, guidance_scale)
        mean, std = transition(latents, velocity, sigma, sigma_next, args.noise_level, args.sde_type)
        # [R, K]: all that left from a row's latents, from one forward pass
        log_prob_RK = log_prob(inputs["next_latents"], mean[:, None], std[:, None])
        # On-policy the ratio is 1 by definition; taking it from the same forward pass makes it so exactly.
        old_log_prob_RK = log_prob_RK.detach() if self._on_policy else inputs["log_prob"]
        loss_RK, ratio_RK = ppo_clip_loss(
            log_prob_RK, old_log_prob_RK, inputs["advantages"].nan_to_num(), args.epsilon
        )
        loss = (loss_RK * active_RK).sum()

        metrics = self._metrics["train"]
        # without a penalty the distance from the base is still worth a curve, at the price of a forward now and then
        if args.beta > 0 or self._logging_due():
            # rows come in random order, so the first of them are a random subset
            some = slice(math.ceil(args.kl_fraction * len(latents)))
            if "ref_velocity" not in inputs:  # it stays for the other iterations over this rollout
                with torch.no_grad(), reference_policy(self.accelerator.unwrap_model(model), args.reference):
                    inputs["ref_velocity"] = self.policy.velocity(
                        model,
                        latents[some],
                        sigma[some],
                        {name: tensor[some] for name, tensor in conditioning.items()},
                        guidance_scale,
                    )
            # the difference stays outside `no_grad`, or the penalty would have no gradient
            ref_mean, _ = transition(
                latents[some], inputs["ref_velocity"], sigma[some], sigma_next[some], args.noise_level, args.sde_type
            )
            if args.kl_type == "log_ratio":
                ref_log_prob_RK = log_prob(inputs["next_latents"][some], ref_mean[:, None], std[some, None])
                kl_RK = log_prob_RK[some] - ref_log_prob_RK
            elif args.sde_type == "cps":
                kl_RK = velocity_kl(velocity[some], inputs["ref_velocity"])[:, None].expand_as(active_RK[some])
            else:
                kl_RK = gaussian_kl(mean[some], ref_mean, std[some])[:, None].expand_as(active_RK[some])
            loss = loss + args.beta * (kl_RK * active_RK[some]).sum() * (len(latents) / len(kl_RK))
            metrics["policy/kl"] += kl_RK.detach()[active_RK[some]].tolist()

        # |ρ - 1| against what the rollout stored: off-policy drift, and on-policy any mismatch of the two passes
        drift_RK = (torch.exp(log_prob_RK.detach() - inputs["log_prob"]) - 1).abs()
        metrics["policy/ratio_deviation"] += drift_RK[active_RK].tolist()
        metrics["policy/clip_fraction"] += ((ratio_RK - 1).abs() > args.epsilon)[active_RK].float().tolist()

        # Masked rows count in the denominator: a tie is a pair that says nothing, not a reason for larger steps.
        return loss / args.per_device_train_batch_size

    # Evaluation

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """
        Compare the trained model with its base, the adapter switched off, on the same prompts and noise.

        Fills `self.evaluation` and writes `samples.png` to `output_dir`.

        Returns:
            `dict[str, float]`: `eval_win_rate`, `eval_tie_rate`, what the reward functions logged, and the success
            rates of `eval_funcs`.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ValueError("RPOTrainer.evaluate needs an `eval_dataset` with a `prompt` column.")
        if self.accelerator.is_fsdp2 and not isinstance(self.model, FSDPModule):
            raise RuntimeError(
                "Under FSDP2 the base is sharded when training begins, and is in the host's memory until then: call "
                "`train` before `evaluate`, or set eval_on_start=True."
            )
        started = time.perf_counter()
        process, num_processes = self.accelerator.process_index, self.accelerator.num_processes
        places, counted = share_of(process, num_processes, len(dataset))
        dataset = undecoded(dataset)
        rows = decode_sources([dataset[place] for place in places])
        with self.accelerator.unwrap_model(self.model_wrapped).disable_adapter():
            base = draw_rows(self.policy, self.model_wrapped, rows, places, self.args)
        trained = draw_rows(self.policy, self.model_wrapped, rows, places, self.args)

        self._mode = "eval"
        pairs = [image for pair in zip(base, trained, strict=True) for image in pair]
        rewards_NF = self._calculate_rewards(rows, pairs, num_generations=2)
        is_judge = torch.tensor([isinstance(func, JudgeReward) for func in self.reward_funcs])
        if is_judge.any():  # beside a judge, what other functions reward says nothing about its win rate
            rewards_NF[:, ~is_judge] = torch.nan
        rewards_PN = self._combine_rewards(rewards_NF, 2)
        logged = self._flush_metrics()

        judged = win_rate_from_rewards(gather_object(rewards_PN[:counted].tolist()))
        checks = [
            gather_object([check_pictures(self.eval_funcs, rows, images)[:counted]]) for images in (base, trained)
        ]
        base_rates, trained_rates = (
            success_rates([check for part in parts for check in part]) if self.eval_funcs else None for parts in checks
        )
        self.evaluation = EvaluationResults(
            base_model=self.base_model,
            adapter=self.args.adapter_subfolder,
            prompts=judged.prompts,
            base=base_rates,
            trained=trained_rates,
            win_rate=judged.win_rate,
            win_rate_ci=judged.win_rate_ci,
            tie_rate=judged.tie_rate,
            failure_rate=judged.failure_rate,
            order_consistency=logged.get("judge/order_consistency"),
            judge_calls=round(sum(gather_object([self.metric_totals["judge/calls"]]))),
            transformer_forwards=sum(gather_object([self._train_forwards])),
            train_seconds=self._train_seconds,
        )
        if self.accelerator.is_main_process:
            path = Path(self.args.output_dir) / "samples.png"
            save_sheet(path, rows, base, trained, self.args.num_eval_samples)
        metrics = metrics_of(self.evaluation, logged) | {"runtime": time.perf_counter() - started}
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self._mode = "train"
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        name = self.args.metric_for_best_model
        if name is not None and f"eval_{name.removeprefix('eval_')}" not in metrics:
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

    # Logging

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log({**logs, **self._flush_metrics()}, start_time)

    def _flush_metrics(self) -> dict[str, float]:
        """The means, over all processes, of what was measured since the last time."""
        collected = defaultdict(list)
        for metrics in gather_object([dict(self._metrics[self._mode])]):
            for name, values in metrics.items():
                collected[name] += [value for value in values if not math.isnan(value)]
        self._metrics[self._mode].clear()
        return {name: sum(values) / len(values) for name, values in collected.items() if values}

    # Training and saving

    def _prepare_for_training(self, *args, **kwargs):
        model, dataloader = super()._prepare_for_training(*args, **kwargs)
        if isinstance(model, FSDPModule):
            shard_between_forwards(model)
        return model, dataloader

    def train(self, *args, **kwargs):
        if self.accelerator.is_main_process:
            logger.info(self.batch_arithmetic())
        self._train_started = (time.perf_counter(), self.transformer_forwards)
        output = super().train(*args, **kwargs)
        self._train_seconds, self._train_forwards = self._spent()
        return output

    def _spent(self) -> tuple[float, int]:
        """Seconds and forwards of training so far."""
        started, forwards = self._train_started
        return time.perf_counter() - started, self.transformer_forwards - forwards

    @property
    def adapter_folder(self) -> Path:
        """Where [`~RPOTrainer.save_model`] puts the adapter."""
        return Path(self.args.output_dir) / self.args.adapter_subfolder

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
        write_model_card(self.args.output_dir, adapter_card(self, self._dataset_names, self._train_seconds))

    def _save_checkpoint(self, model, trial) -> None:
        # candidates that are with the judge are saved with its verdicts
        pending, self._pending = self._pending, None
        if pending is not None:
            self._pending = self._score(pending)
        super()._save_checkpoint(model, trial)

    def _fixed_settings(self) -> dict[str, Any]:
        return fixed_settings(self.args, self.model.peft_config["default"])

    def _sealed_settings(self) -> dict[str, Any]:
        holds_rollout = self._pending is not None or self._step % self._repeats() > 0
        return fixed_settings(self.args, self.model.peft_config["default"], holds_rollout)

    def _owner_state(self) -> dict[str, Any]:
        # the rollouts that are being trained on or judged, and what was measured since the last log
        return {
            "rollouts": divmod(self._step, self._repeats()),  # whole ones, and micro-steps on the next
            "buffered_inputs": self._buffered_inputs if self._step % self._repeats() else [],
            "pending": self._pending,
            # plain numbers, whatever reward functions log: nothing else is read back
            "metrics": {name: [float(value) for value in values] for name, values in self._metrics["train"].items()},
            "metric_totals": {name: float(value) for name, value in self.metric_totals.items()},
            "loss": (self._tr_loss.clone(), self._globalstep_last_logged),
        }

    def _restore_owner_state(self, state: dict[str, Any]) -> None:
        rollouts, steps = state["rollouts"]
        self._step = rollouts * self._repeats() + steps
        self._buffered_inputs = state["buffered_inputs"]
        # what was with the judge when an error came is sampled anew
        self._pending = state["pending"] if isinstance(state["pending"], list) else None
        self._metrics["train"] = defaultdict(list, {name: list(values) for name, values in state["metrics"].items()})
        self.metric_totals = defaultdict(float, state["metric_totals"])
        loss, self._globalstep_last_logged = state["loss"]
        self._tr_loss.copy_(loss)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        stream = None if self._stream is None else self._stream.state_dict(self._step // self._repeats())
        state = self._owner_state() | {"stream": stream, "spent": self._spent(), "processes": self.args.world_size}
        torch.save(state, state_file(output_dir, self.args.process_index))

    def _load_rollout_state(self, checkpoint: str | os.PathLike, device: torch.device | str = "cpu") -> dict[str, Any]:
        return load_state(checkpoint, self.args.process_index, self.args.world_size, device)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        state = self._load_rollout_state(checkpoint, self.accelerator.device)
        self._restore_owner_state(state)
        seconds, forwards = state["spent"]
        self._train_started = (self._train_started[0] - seconds, self._train_started[1] - forwards)


def _judge_rows(rows: list[dict[str, Any]], images: list[Image.Image], num_generations: int) -> list[JudgeRow]:
    """The candidates of each row, as a judge takes them."""
    groups = [tuple(images[i : i + num_generations]) for i in range(0, len(images), num_generations)]
    return [JudgeRow(r["prompt"], group, r.get(SOURCE_COLUMN)) for r, group in zip(rows, groups, strict=True)]


async def _wait_for(rewards: Awaitable[list[float | None]]) -> list[float | None]:
    return await rewards


def _pixel_distance(images: list[Image.Image], num_generations: int) -> float:
    """Mean absolute difference, 0 to 1, of the first two candidates of each prompt: 0 means there is nothing to judge."""
    first, second = (
        torch.from_numpy(np.stack([np.asarray(image) for image in images[k::num_generations]])).float() for k in (0, 1)
    )
    return ((first - second).abs().mean() / 255).item()
