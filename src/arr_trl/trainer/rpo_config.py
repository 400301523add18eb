"""Every decision of an RPO run."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from trl.trainer.base_config import _BaseConfig


@dataclass
class RPOConfig(_BaseConfig):
    r"""
    Configuration class for the [`RPOTrainer`].

    It holds only what is specific to RPO; for the rest see [`~transformers.TrainingArguments`]. Defaults are the
    paper's for FLUX.1-dev ([paper](https://huggingface.co/papers/2605.08354)) where it gives one. With
    [`~transformers.HfArgumentParser`] the class becomes command-line arguments.

    Parameters:
        > Parameters that control the model

        model_init_kwargs (`dict[str, Any]` or `str`, *optional*):
            Keyword arguments for the pipeline's `from_pretrained`, used when `model` of [`RPOTrainer`] is a string.
            `dtype` defaults to bfloat16 when `bf16` is set and to float32 otherwise.
        max_sequence_length (`int`, *optional*, defaults to `512`):
            Text tokens per prompt, as in the pipeline's `__call__`.

        > Parameters that control the rollout

        height (`int`, *optional*, defaults to `512`):
            Height of the pictures in pixels.
        width (`int`, *optional*, defaults to `512`):
            Width of the pictures in pixels.
        num_inference_steps (`int`, *optional*, defaults to `8`):
            Denoising steps of a rollout. The noise levels are those of the pipeline's own scheduler.
        guidance_scale (`float`, *optional*, defaults to `3.5`):
            Guidance of rollout, training and evaluation, as in the pipeline's `__call__`.
        num_generations (`int`, *optional*, defaults to `2`):
            Candidates per prompt, at least 2.
        sde_type (`str`, *optional*, defaults to `"flow"`):
            Form of the noisy steps: `"flow"` (Flow-GRPO), `"dance"` (DanceGRPO) or `"cps"` (coefficients-preserving).
        noise_level (`float`, *optional*, defaults to `0.9`):
            Strength of the noise: a for `"flow"` (.7 to 1.4) and `"cps"` (.8), η for `"dance"` (.3).
        sde_window_size (`int`, *optional*):
            How many consecutive steps carry noise and are trained on; `None` takes every step of `sde_window_range`.
        sde_window_range (`list[int]`, *optional*):
            First step and end (exclusive) that the window is drawn from, anew for each rollout. Defaults to all steps
            but the last, which is always deterministic.
        share_initial_noise (`bool`, *optional*, defaults to `True`):
            Start all candidates of a prompt from the same noise. The steps before the window are then computed once.
        rollout_batch_size (`int`, *optional*):
            Prompts whose candidates are sampled in one forward pass; `None` takes all of the rollout.
        steps_per_generation (`int`, *optional*):
            Micro-steps that train on one rollout. Defaults to `gradient_accumulation_steps`.
        num_iterations (`int`, *optional*, defaults to `1`):
            How often a rollout is trained on (μ in the GRPO paper).
        shuffle_dataset (`bool`, *optional*, defaults to `True`):
            Draw the prompts in a new order each epoch.
        shuffle_buffer_size (`int`, *optional*, defaults to `1000`):
            Prompts of a streamed dataset that are read and shuffled at a time.

        > Parameters that control the objective

        reward_weights (`list[float]`, *optional*):
            Weight of each reward function; all 1 by default.
        positive_reward (`float`, *optional*, defaults to `1.0`):
            Advantage of the preferred candidate.
        negative_reward (`float`, *optional*, defaults to `0.1`):
            Magnitude of the dispreferred candidate's negative advantage.
        center_rewards (`bool`, *optional*, defaults to `False`):
            Subtract the mean of the two, .45 by default. It changes no expectation and lowers the variance.
        epsilon (`float`, *optional*, defaults to `0.2`):
            Clip range of the PPO ratio. Log-probabilities are means over the latent dimensions, so the ratio moves
            little; `policy/clip_fraction` shows whether the clip is ever reached.
        beta (`float`, *optional*, defaults to `0.01`):
            Weight of the KL penalty against the model without the adapter. 0 saves a forward pass per transition; the
            divergence is then measured once every `logging_steps` steps.
        kl_type (`str`, *optional*, defaults to `"closed_form"`):
            `"closed_form"` (KL of two Gaussians; with `sde_type="cps"` the squared velocity difference, since the
            step's deviation goes to 0) or `"log_ratio"` (the estimate of the ARR release, which has zero expected
            gradient on-policy; for parity only).

        > Parameters that control evaluation and what is written

        eval_num_inference_steps (`int`, *optional*, defaults to `30`):
            Denoising steps of evaluation pictures.
        eval_seed (`int`, *optional*, defaults to `1234`):
            Seed of the evaluation noise; prompt `i` uses `eval_seed + i` for base and trained alike.
        num_eval_samples (`int`, *optional*, defaults to `8`):
            Rows of the grid of base and trained pictures that each evaluation writes.
        log_completions (`bool`, *optional*, defaults to `False`):
            Every `logging_steps` steps, write the candidates with rewards and verdicts to `completions/`, as a table
            with pictures (`.parquet`) and as a sheet (`.png`), and show them in the trackers of `report_to`.
        log_completions_hub_repo (`str`, *optional*):
            Dataset repository on the Hub, such as `"user/completions"`, that these tables are pushed to as well. It is
            created when missing, private only with `hub_private_repo` or where the namespace prefers it.
        adapter_subfolder (`str`, *optional*):
            Folder inside `output_dir`, and inside the Hub repo, that holds the adapter. Defaults to `"ARR-"` followed
            by the name of the base model.
    """

    _VALID_DICT_FIELDS = [*_BaseConfig._VALID_DICT_FIELDS, "model_init_kwargs"]

    # Overridden defaults: the paper's learning rate and batch, and columns that reward functions need.
    per_device_train_batch_size: int = field(
        default=4, metadata={"help": "Transitions in one forward and backward pass: the memory knob."}
    )
    gradient_accumulation_steps: int = field(
        default=112,
        metadata={
            "help": "Micro-steps per optimizer step. By default 4 x 112 transitions are the paper's 32 pairs with seven "
            "trained steps each."
        },
    )
    learning_rate: float = field(default=5e-5, metadata={"help": "The initial learning rate for AdamW."})
    remove_unused_columns: bool = field(
        default=False,
        metadata={"help": "Whether to drop the columns that the model's forward does not take. The prompt is one."},
    )

    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Keyword arguments for the pipeline's `from_pretrained`, used when `model` is a string. `dtype` "
            "defaults to bfloat16 when `bf16` is set and to float32 otherwise."
        },
    )
    max_sequence_length: int = field(
        default=512, metadata={"help": "Text tokens per prompt, as in the pipeline's `__call__`."}
    )

    height: int = field(default=512, metadata={"help": "Height of the pictures in pixels."})
    width: int = field(default=512, metadata={"help": "Width of the pictures in pixels."})
    num_inference_steps: int = field(
        default=8,
        metadata={"help": "Denoising steps of a rollout, at the noise levels of the pipeline's own scheduler."},
    )
    guidance_scale: float = field(
        default=3.5,
        metadata={"help": "Guidance of rollout, training and evaluation, as in the pipeline's `__call__`."},
    )
    num_generations: int = field(default=2, metadata={"help": "Candidates per prompt, at least 2."})
    sde_type: str = field(
        default="flow",
        metadata={
            "help": "Form of the noisy steps: `flow` (Flow-GRPO), `dance` (DanceGRPO) or `cps`.",
            "choices": ["flow", "dance", "cps"],
        },
    )
    noise_level: float = field(
        default=0.9,
        metadata={"help": "Strength of the noise: a for `flow` (.7 to 1.4) and `cps` (.8), eta for `dance` (.3)."},
    )
    sde_window_size: int | None = field(
        default=None,
        metadata={
            "help": "How many consecutive steps carry noise and are trained on. Unset, every step of "
            "`sde_window_range`."
        },
    )
    sde_window_range: list[int] | None = field(
        default=None,
        metadata={
            "help": "First step and end (exclusive) that the window is drawn from, anew for each rollout. Unset, all "
            "steps but the last, which is always deterministic.",
            "nargs": 2,
        },
    )
    share_initial_noise: bool = field(
        default=True,
        metadata={
            "help": "Start all candidates of a prompt from the same noise. The steps before the window are then "
            "computed once."
        },
    )
    rollout_batch_size: int | None = field(
        default=None,
        metadata={"help": "Prompts whose candidates are sampled in one forward pass. Unset, all of the rollout."},
    )
    steps_per_generation: int | None = field(
        default=None,
        metadata={"help": "Micro-steps that train on one rollout. Unset, `gradient_accumulation_steps`."},
    )
    num_iterations: int = field(default=1, metadata={"help": "How often a rollout is trained on."})
    shuffle_dataset: bool = field(default=True, metadata={"help": "Draw the prompts in a new order each epoch."})
    shuffle_buffer_size: int = field(
        default=1000, metadata={"help": "Prompts of a streamed dataset that are read and shuffled at a time."}
    )

    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "Weight of each reward function. Unset, all 1."}
    )
    positive_reward: float = field(default=1.0, metadata={"help": "Advantage of the preferred candidate."})
    negative_reward: float = field(
        default=0.1, metadata={"help": "Magnitude of the dispreferred candidate's negative advantage."}
    )
    center_rewards: bool = field(
        default=False,
        metadata={
            "help": "Subtract the mean of the two rewards, which lowers the variance and changes no expectation."
        },
    )
    epsilon: float = field(default=0.2, metadata={"help": "Clip range of the PPO ratio."})
    beta: float = field(
        default=0.01,
        metadata={
            "help": "Weight of the KL penalty against the model without the adapter. 0 saves a forward pass per "
            "transition."
        },
    )
    kl_type: str = field(
        default="closed_form",
        metadata={
            "help": "`closed_form`, or `log_ratio` for parity with the ARR release: zero expected gradient on-policy.",
            "choices": ["closed_form", "log_ratio"],
        },
    )

    eval_num_inference_steps: int = field(default=30, metadata={"help": "Denoising steps of evaluation pictures."})
    eval_seed: int = field(
        default=1234,
        metadata={"help": "Seed of the evaluation noise; prompt i uses `eval_seed + i` for base and trained alike."},
    )
    num_eval_samples: int = field(
        default=8,
        metadata={"help": "Rows of the grid of base and trained pictures that each evaluation writes."},
    )
    log_completions: bool = field(
        default=False,
        metadata={
            "help": "Every `logging_steps` steps, write the candidates with rewards and verdicts to `completions/` and "
            "show them in the trackers of `report_to`."
        },
    )
    log_completions_hub_repo: str | None = field(
        default=None,
        metadata={
            "help": "Dataset repository on the Hub that the tables of `log_completions` are pushed to as well. Unset, "
            "they stay local."
        },
    )
    adapter_subfolder: str | None = field(
        default=None,
        metadata={
            "help": "Folder inside `output_dir`, and inside the Hub repo, that holds the adapter. Unset, `ARR-` "
            "followed by the name of the base model."
        },
    )

    def __post_init__(self):
        if self.reward_weights is not None and not isinstance(self.reward_weights, list | tuple):
            raise ValueError(f"reward_weights={self.reward_weights!r} has to be a list of numbers, one per function.")
        super().__post_init__()
        # Rows are text and pictures, not tensors: accelerate cannot dispatch them, and every rank reads its own.
        self.accelerator_config.dispatch_batches = False
        for name in (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "num_iterations",
            "eval_num_inference_steps",
            "max_sequence_length",
            "steps_per_generation",
            "rollout_batch_size",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} has to be at least 1.")
        if not 0 <= self.learning_rate < math.inf:
            raise ValueError(f"learning_rate={self.learning_rate} has to be a finite number, 0 or greater.")
        if self.log_completions_hub_repo is not None and not self.log_completions:
            raise ValueError(
                f"log_completions_hub_repo={self.log_completions_hub_repo!r} gets nothing without log_completions=True."
            )
        name = self.adapter_subfolder
        reserved = ("README.md", "samples", "samples.png", "completions", "results.json")
        if name is not None and (
            not re.fullmatch(r"[\w-][\w.-]*", name) or name in reserved or name.startswith("checkpoint-")
        ):
            raise ValueError(
                f"adapter_subfolder={name!r} has to be a plain folder name without slashes, such as 'ARR-FLUX.1-dev'."
            )
        if self.num_generations < 2:
            raise ValueError(
                f"num_generations={self.num_generations} leaves nothing to compare; RPO needs at least 2 candidates "
                "per prompt."
            )
        if self.shuffle_buffer_size < 1:
            raise ValueError(f"shuffle_buffer_size={self.shuffle_buffer_size} has to be at least one prompt.")
        if self.num_inference_steps < 2:
            raise ValueError(
                f"num_inference_steps={self.num_inference_steps} leaves no step to train: the last one is always "
                "deterministic. Use at least 2; the paper uses 8."
            )
        for name in ("epsilon", "noise_level", "positive_reward"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be greater than 0.")
        for name in ("beta", "negative_reward"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0; it is a magnitude.")
        if self.sde_type == "cps" and self.noise_level > 1:
            raise ValueError(f"noise_level={self.noise_level} must be at most 1 with sde_type='cps'; 0.8 is usual.")
        if self.sde_type not in ("flow", "dance", "cps"):
            raise ValueError(f"sde_type={self.sde_type!r} is not one of 'flow', 'dance' and 'cps'.")
        if self.kl_type not in ("closed_form", "log_ratio"):
            raise ValueError(f"kl_type={self.kl_type!r} is not one of 'closed_form' and 'log_ratio'.")
        self._check_window()

        if self.steps_per_generation is None:
            self.steps_per_generation = self.gradient_accumulation_steps
        rows = self.per_device_train_batch_size * self.steps_per_generation
        rows_per_prompt = self.num_generations * self.window_size
        if rows % rows_per_prompt:
            raise ValueError(
                f"per_device_train_batch_size × steps_per_generation = {self.per_device_train_batch_size} × "
                f"{self.steps_per_generation} = {rows} transitions do not divide into prompts of num_generations × "
                f"trained steps = {self.num_generations} × {self.window_size} = {rows_per_prompt} transitions; make "
                f"the product a multiple of {rows_per_prompt}."
            )

    def _check_window(self) -> None:
        last = self.num_inference_steps - 1
        if self.sde_window_range is None:
            self.sde_window_range = [0, last]
        window = self.sde_window_range
        if not isinstance(window, list | tuple) or len(window) != 2 or any(type(step) is not int for step in window):
            raise ValueError(
                f"sde_window_range={window!r} has to be two whole numbers, the first step and the end, such as 0 3."
            )
        start, end = window
        if not 0 <= start < end <= last:
            raise ValueError(
                f"sde_window_range={self.sde_window_range} is not inside the schedule: with num_inference_steps="
                f"{self.num_inference_steps} it has to satisfy 0 <= first < end <= {last}, since the last step is "
                "always deterministic."
            )
        if self.sde_window_size is not None and not 1 <= self.sde_window_size <= end - start:
            raise ValueError(
                f"sde_window_size={self.sde_window_size} does not fit into sde_window_range={self.sde_window_range}; "
                f"use 1 to {end - start}."
            )

    @property
    def window_size(self) -> int:
        """Number of trained steps of each candidate."""
        start, end = self.sde_window_range
        return self.sde_window_size or end - start

    @property
    def prompts_per_rollout(self) -> int:
        """Prompts of one rollout on one device."""
        rows = self.per_device_train_batch_size * self.steps_per_generation
        return rows // (self.num_generations * self.window_size)
