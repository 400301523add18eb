"""Every decision of an RPO run."""

import math
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
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
        max_sequence_length (`int`, *optional*):
            Text tokens per prompt, as in the pipeline's `__call__`. By default that of the pipeline's own `__call__`.
        condition_size (`int`, *optional*):
            For pipelines that edit: side in pixels of the square whose area the source is resized to, its aspect ratio
            kept. By default the pipeline's own, 1024 for Qwen-Image-Edit, whose forward at 512 pixels costs half as
            much with 512.
        negative_prompt (`str`, *optional*):
            What classifier-free guidance leads away from. By default the family's own.
        adapter_path (`str`, *optional*):
            Adapter to go on training from: a folder or a LoRA file, or `"user/repo"` or `"user/repo/subfolder"` on the
            Hub.
        reference (`str`, *optional*, defaults to `"base"`):
            What the KL penalty holds on to: `"base"`, the model without an adapter, or `"adapter"`, the adapter of
            `adapter_path` as it was.
        base_precision (`str`, *optional*):
            How the frozen weights of the transformer are kept in memory: `"fp8"` (8-bit floats, widened layer by layer
            as they are used) or `"int8"` (torchao's weight-only integers). By default as they were loaded.
        offload_encoders (`bool`, *optional*, defaults to `False`):
            Keep text encoders and autoencoder in CPU memory, and bring them to the device layer by layer when they are
            used.
        max_cached_prompts (`int`, *optional*):
            How many encoded prompts are kept in memory, the last used: 4.2 MB each for FLUX.1, on the device. By default
            1024, and 128 for pipelines that edit, which keep the latents of the source with them.
        prompt_cache_dir (`str`, *optional*):
            Folder in which encoded prompts and sources are kept, about 4 MB for a prompt of FLUX.1, so that later runs and
            prompts that no longer fit into memory need not be encoded again. By default they are kept in memory alone.
        offload_blocks (`bool`, *optional*, defaults to `False`):
            Keep the frozen weights of the transformer's blocks in CPU memory, and load each block while the one before
            it computes: two are on the device at a time. Needs `gradient_checkpointing`.

        compile_blocks (`bool`, *optional*, defaults to `False`):
            Compile the blocks that the transformer repeats, with `torch.compile`. The first steps take minutes more,
            and so does the first evaluation. Goes with neither `base_precision` nor `offload_blocks`.

        > Parameters that control the rollout

        height (`int`, *optional*, defaults to `512`):
            Height of the pictures in pixels.
        width (`int`, *optional*, defaults to `512`):
            Width of the pictures in pixels.
        num_inference_steps (`int`, *optional*, defaults to `8`):
            Denoising steps of a rollout. The noise levels are those of the pipeline's own scheduler.
        guidance_scale (`float`, *optional*, defaults to `3.5`):
            Guidance of rollout, training and evaluation, as in the pipeline's `__call__` (`true_cfg_scale` of
            Qwen-Image).
        cfg (`str`, *optional*, defaults to `"both"`):
            Where classifier-free guidance is used, in families that have it; its second branch doubles the cost of a
            forward. `"both"`: in the rollout and in the loss; `"rollout"`: candidates are drawn with it, the loss is
            that of the network without it; `"off"`: in neither. Evaluation always uses it. FLUX.1's guidance is an
            input of the network, costs nothing, and is not meant.
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
        pipelined_judge (`bool`, *optional*, defaults to `False`):
            Train on the previous rollout while judges read the newest one. Its candidates are then one update older
            than the policy, which the ratio ρ makes up for. The first rollout's worth of steps has nothing to train on
            yet, and the last rollout is not trained on.
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
            Weight of the KL penalty against the `reference`. 0 saves a forward pass per transition; the
            divergence is then measured once every `logging_steps` steps.
        kl_fraction (`float`, *optional*, defaults to `1.0`):
            Share of the trained rows that the penalty is computed on, drawn at random; it is scaled up to all of them.
            Each row left out saves a forward pass of the reference.
        kl_type (`str`, *optional*, defaults to `"closed_form"`):
            `"closed_form"` (KL of two Gaussians; with `sde_type="cps"` the squared velocity difference, since the
            step's deviation goes to 0) or `"log_ratio"` (the estimate of the ARR release, which has zero expected
            gradient on-policy; for parity only).

        > Parameters that control evaluation and what is written

        eval_height (`int`, *optional*):
            Height of evaluation pictures in pixels; that of the rollouts by default. To train at half the size and
            evaluate at full size costs a quarter.
        eval_width (`int`, *optional*):
            Width of evaluation pictures in pixels.
        eval_num_inference_steps (`int`, *optional*, defaults to `30`):
            Denoising steps of evaluation pictures.
        eval_seed (`int`, *optional*, defaults to `1234`):
            Seed of the evaluation noise; prompt `i` uses `eval_seed + i` for base and trained alike.
        num_eval_samples (`int`, *optional*, defaults to `8`):
            Rows of the grid of base and trained pictures that each evaluation writes.
        early_stopping (`int`, *optional*):
            End training after this many evaluations in a row without a higher `eval_win_rate`. It needs an
            `eval_strategy`; `best_global_step` in `trainer_state.json` is then the best step. What is released is the
            adapter of the last step; with `load_best_model_at_end=True` and `save_strategy="best"`, of the best one.
        log_completions (`bool`, *optional*, defaults to `False`):
            Every `logging_steps` steps, write the candidates with rewards and verdicts to `completions/`, as a table
            with pictures (`.parquet`) and as a sheet (`.png`), and show them in the trackers of `report_to`.
        log_completions_hub_repo (`str`, *optional*):
            Dataset repository on the Hub, such as `"user/completions"`, that these tables are pushed to as well. It is
            created when missing, private only with `hub_private_repo` or where the namespace prefers it.
        profile (`bool`, *optional*, defaults to `False`):
            Profile two steps: `profile/` in `output_dir` gets a trace of PyTorch's profiler and a table of where the
            time went.
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
    max_sequence_length: int | None = field(
        default=None,
        metadata={
            "help": "Text tokens per prompt, as in the pipeline's `__call__`. By default that of the pipeline's own "
            "`__call__`."
        },
    )

    condition_size: int | None = field(
        default=None,
        metadata={
            "help": "For pipelines that edit: side in pixels of the square whose area the source is resized to. Unset, "
            "the pipeline's own; 512 halves the cost of Qwen-Image-Edit at 512 pixels."
        },
    )
    negative_prompt: str | None = field(
        default=None,
        metadata={"help": "What classifier-free guidance leads away from. Unset, the family's own."},
    )
    adapter_path: str | None = field(
        default=None,
        metadata={
            "help": "Adapter to go on training from: a folder, a LoRA file, or user/repo or user/repo/subfolder on the "
            "Hub."
        },
    )
    reference: str = field(
        default="base",
        metadata={
            "help": "What the KL penalty holds on to: `base`, the model without an adapter, or `adapter`, that of "
            "`adapter_path` as it was.",
            "choices": ["base", "adapter"],
        },
    )
    base_precision: str | None = field(
        default=None,
        metadata={
            "help": "How the frozen weights of the transformer are kept: `fp8` (widened layer by layer as they are used) "
            "or `int8` (torchao). Unset, as they were loaded.",
            "choices": ["fp8", "int8"],
        },
    )
    offload_encoders: bool = field(
        default=False,
        metadata={
            "help": "Keep text encoders and autoencoder in CPU memory and bring them to the device layer by layer."
        },
    )
    max_cached_prompts: int | None = field(
        default=None,
        metadata={"help": "Encoded prompts that are kept in memory. Unset, 1024, or 128 with their sources."},
    )
    prompt_cache_dir: str | None = field(
        default=None,
        metadata={"help": "Folder in which encoded prompts and sources are kept for later, beside those in memory."},
    )
    offload_blocks: bool = field(
        default=False,
        metadata={
            "help": "Keep the frozen weights of the transformer's blocks in CPU memory and load each block while the one "
            "before it computes. Needs `gradient_checkpointing`."
        },
    )
    compile_blocks: bool = field(
        default=False,
        metadata={"help": "Compile the blocks that the transformer repeats. The first steps take minutes more."},
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
    cfg: str = field(
        default="both",
        metadata={
            "help": "Where classifier-free guidance, which doubles the cost of a forward, is used: in rollout and loss "
            "(`both`), for drawing candidates only (`rollout`), or in neither (`off`).",
            "choices": ["both", "rollout", "off"],
        },
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
    pipelined_judge: bool = field(
        default=False,
        metadata={
            "help": "Train on the previous rollout while judges read the newest one, which makes candidates one update "
            "older."
        },
    )
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
        metadata={"help": "Weight of the KL penalty against the `reference`. 0 saves a forward pass per transition."},
    )
    kl_fraction: float = field(
        default=1.0,
        metadata={
            "help": "Share of the trained rows, drawn at random, that the penalty is computed on and scaled up from."
        },
    )
    kl_type: str = field(
        default="closed_form",
        metadata={
            "help": "`closed_form`, or `log_ratio` for parity with the ARR release: zero expected gradient on-policy.",
            "choices": ["closed_form", "log_ratio"],
        },
    )

    eval_height: int | None = field(
        default=None, metadata={"help": "Height of evaluation pictures in pixels. Unset, that of the rollouts."}
    )
    eval_width: int | None = field(
        default=None, metadata={"help": "Width of evaluation pictures in pixels. Unset, that of the rollouts."}
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
    early_stopping: int | None = field(
        default=None,
        metadata={
            "help": "End training after this many evaluations in a row without a higher win rate. Unset, never. With "
            "`load_best_model_at_end` and `save_strategy: best` the adapter of the best evaluation is released."
        },
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
    profile: bool = field(
        default=False,
        metadata={"help": "Write a trace of PyTorch's profiler and a table of where the time went to `profile/`."},
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
        asks_for_best = self.early_stopping is not None or self.load_best_model_at_end or self.save_strategy == "best"
        if asks_for_best and self.metric_for_best_model is None:
            # TrainingArguments would take the loss, which our evaluations do not have
            self.metric_for_best_model = "eval_win_rate"
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
            "max_cached_prompts",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} has to be at least 1.")
        if self.max_steps == 0 or (self.max_steps < 0 and self.num_train_epochs <= 0):
            raise ValueError(
                f"max_steps={self.max_steps} with num_train_epochs={self.num_train_epochs} is a training without a step, "
                "and would release the adapter untrained; give max_steps, or max_steps=-1 and num_train_epochs."
            )
        if self.auto_find_batch_size:
            raise ValueError(
                "auto_find_batch_size=True would begin again with rollouts as large as before. Leave it out, and lower "
                "rollout_batch_size, or per_device_train_batch_size with as many more gradient_accumulation_steps."
            )
        if self.neftune_noise_alpha is not None:
            raise ValueError(
                f"neftune_noise_alpha={self.neftune_noise_alpha} is for models with token embeddings; leave it out."
            )
        if not 0 <= self.learning_rate < math.inf:
            raise ValueError(f"learning_rate={self.learning_rate} has to be a finite number, 0 or greater.")
        if self.log_completions_hub_repo is not None and not self.log_completions:
            raise ValueError(
                f"log_completions_hub_repo={self.log_completions_hub_repo!r} gets nothing without log_completions=True."
            )
        name = self.adapter_subfolder
        reserved = ("README.md", "samples", "samples.png", "completions", "profile", "results.json")
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
        if not 0 < self.kl_fraction <= 1:
            raise ValueError(
                f"kl_fraction={self.kl_fraction} is a share of the trained rows, greater than 0 and at most 1; switch "
                "the penalty off with beta=0."
            )
        if self.sde_type == "cps" and self.noise_level > 1:
            raise ValueError(f"noise_level={self.noise_level} must be at most 1 with sde_type='cps'; 0.8 is usual.")
        if self.sde_type not in ("flow", "dance", "cps"):
            raise ValueError(f"sde_type={self.sde_type!r} is not one of 'flow', 'dance' and 'cps'.")
        if self.kl_type not in ("closed_form", "log_ratio"):
            raise ValueError(f"kl_type={self.kl_type!r} is not one of 'closed_form' and 'log_ratio'.")
        if self.cfg not in ("both", "rollout", "off"):
            raise ValueError(f"cfg={self.cfg!r} is not one of 'both', 'rollout' and 'off'.")
        if self.reference not in ("base", "adapter"):
            raise ValueError(f"reference={self.reference!r} is not one of 'base' and 'adapter'.")
        if self.reference == "adapter" and self.adapter_path is None:
            raise ValueError("reference='adapter' needs `adapter_path`, the adapter to hold on to.")
        if self.base_precision not in (None, "fp8", "int8"):
            raise ValueError(f"base_precision={self.base_precision!r} is not one of 'fp8' and 'int8'.")
        if self.base_precision == "int8" and find_spec("torchao") is None:
            raise ValueError(
                "base_precision='int8' needs torchao; install it with `pip install torchao`, or use 'fp8'."
            )
        if self.offload_blocks and not self.gradient_checkpointing:
            raise ValueError(
                "offload_blocks=True needs gradient_checkpointing=True: without it the backward would need all blocks at "
                "once."
            )
        if self.offload_blocks and self.compile_blocks:
            raise ValueError(
                "compile_blocks=True compiles blocks whose weights stay where they are. Leave it out, or offload_blocks."
            )
        if self.base_precision is not None and self.compile_blocks:
            raise ValueError(
                "compile_blocks=True compiles blocks whose weights are kept in the type that they compute in. Leave it "
                "out, or base_precision."
            )
        self._check_window()
        if self.eval_height is None:
            self.eval_height = self.height
        if self.eval_width is None:
            self.eval_width = self.width
        if self.early_stopping is not None and (self.early_stopping < 1 or self.eval_strategy == "no"):
            raise ValueError(
                f"early_stopping={self.early_stopping} counts evaluations: it has to be at least 1, and needs "
                "`eval_strategy='steps'` with `eval_steps`."
            )

        if self.steps_per_generation is None:
            self.steps_per_generation = self.gradient_accumulation_steps
        repeats, accumulated = self.steps_per_generation * self.num_iterations, self.gradient_accumulation_steps
        if repeats % accumulated and accumulated % repeats:
            raise ValueError(
                f"steps_per_generation × num_iterations = {repeats} micro-steps per rollout and "
                f"gradient_accumulation_steps={accumulated} do not divide, so that optimizer steps would mix parts of "
                "rollouts; make one a multiple of the other."
            )
        rows = self.per_device_train_batch_size * self.steps_per_generation
        rows_per_prompt = self.num_generations * self.window_size
        if rows % rows_per_prompt:
            raise ValueError(
                f"per_device_train_batch_size × steps_per_generation = {self.per_device_train_batch_size} × "
                f"{self.steps_per_generation} = {rows} transitions do not divide into prompts of num_generations × "
                f"trained steps = {self.num_generations} × {self.window_size} = {rows_per_prompt} transitions; make "
                f"the product a multiple of {rows_per_prompt}."
            )

    @property
    def policy_kwargs(self) -> dict[str, Any]:
        """Settings of the policy that were given; the family has its own for the others."""
        names = ("max_sequence_length", "condition_size", "negative_prompt", "max_cached_prompts")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

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
