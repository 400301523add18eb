"""Every decision that a run has to make about its pipeline, its adapter, its evaluation and what it writes."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from trl.trainer.base_config import _BaseConfig

from ..runtime.checkpoints import ALWAYS, ROLLOUT
from .flow_config_checks import FlowConfigChecks
from .frozen_adapters import EMA, REFERENCE
from .recipes import settings_of


@dataclass
class FlowConfig(FlowConfigChecks, _BaseConfig):
    r"""
    What the configurations of all trainers here share; for the rest see [`~transformers.TrainingArguments`]. With
    [`~transformers.HfArgumentParser`] a configuration becomes command-line arguments.

    A field whose annotation says `ALWAYS` has to stay when a run resumes, one with `ROLLOUT` only where the checkpoint
    holds a rollout; see [`~arr_trl.runtime.checkpoints.fixed_fields`].

    Parameters:
        > Parameters that control the model

        model_init_kwargs (`dict[str, Any]` or `str`, *optional*):
            Keyword arguments for the pipeline's `from_pretrained`, used when the trainer's `model` is a string.
            `dtype`, a precision or its name, defaults to bfloat16 when `bf16` is set and to float32 otherwise.
        max_sequence_length (`int`, *optional*):
            Text tokens per prompt, as in the pipeline's `__call__`. By default that of the pipeline's own `__call__`.
        condition_size (`int`, *optional*):
            For pipelines that edit: side in pixels of the square whose area the source is resized to, its aspect ratio
            kept. By default the pipeline's own, 1024 for Qwen-Image-Edit, whose forward at 512 pixels costs half as
            much with 512.
        negative_prompt (`str`, *optional*):
            What classifier-free guidance leads away from. By default the family's own.
        use_peft (`bool`, *optional*, defaults to `True`):
            Train a LoRA adapter on the frozen transformer. `False` trains all of its weights, in float32 at 16 bytes for each
            and the optimizer's state with them; its rates are lower, 1e-5 and less.
        adapter_path (`str`, *optional*):
            Adapter to go on training from: a folder or a LoRA file, or `"user/repo"` or `"user/repo/subfolder"` on the
            Hub.
        reference (`str`, *optional*, defaults to `"base"`):
            What the KL penalty holds on to: `"base"`, the model without an adapter, or `"adapter"`, the adapter of
            `adapter_path` as it was.
        ema_decay (`float`, *optional*):
            Keep an average of what is trained over its steps, which is what is evaluated and released: after each optimizer
            step it keeps this share of itself, or less in the first ones. .9 in Flow-GRPO and DiffusionNFT.
        base_precision (`str`, *optional*):
            How the frozen weights of the transformer are kept in memory: `"fp8"` (8-bit floats, widened layer by layer
            as they are used) or `"int8"` (torchao's weight-only integers). By default as they were loaded.
        offload_encoders (`bool`, *optional*, defaults to `False`):
            Keep text encoders and autoencoder in CPU memory, and bring them to the device when they are used: once for
            all new rows of a rollout, or layer by layer where there is no room for them.
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
        attn_backend (`str`, *optional*):
            Attention kernels of the transformer, by the names of diffusers' dispatcher: `"flash"`, `"_flash_3"`,
            `"flash_varlen"`, `"flash_hub"` and others, the same in rollout, training and evaluation. By default what the
            pipeline has, PyTorch's own.

        > Parameters that control the pictures

        height (`int`, *optional*, defaults to `512`):
            Height of the pictures in pixels.
        width (`int`, *optional*, defaults to `512`):
            Width of the pictures in pixels.
        size_from_source (`bool`, *optional*, defaults to `True`):
            Draw an edit with the aspect ratio of its source and about the area of `height` × `width`, at a size that the
            pipeline draws. With `False`, and for a source of that aspect ratio, it has `height` × `width`. A row with columns
            `height` and `width` is drawn at these, whether it is an edit or not.
        guidance_scale (`float`, *optional*):
            Guidance of rollout, training and evaluation, as in the pipeline's `__call__` (`true_cfg_scale` of
            Qwen-Image). By default the family's own: 3.5 for FLUX.1-dev.

        > Parameters that control the order of the rows

        shuffle_dataset (`bool`, *optional*, defaults to `True`):
            Draw the rows in a new order each epoch.
        shuffle_buffer_size (`int`, *optional*, defaults to `1000`):
            Rows of a streamed dataset that are read and shuffled at a time.

        > Parameters that control rewards and evaluation

        reward_weights (`list[float]`, *optional*):
            Weight of each reward function; all 1 by default.
        rehearse_judge (`bool`, *optional*, defaults to `True`):
            Ask every judge one real question before anything is loaded, about two flat pictures for the first prompt, and
            stop with its reply where that cannot be read. No store and no count has it.
        eval_height (`int`, *optional*):
            Height of evaluation pictures in pixels; `height` by default. To train at half the size and
            evaluate at full size costs a quarter.
        eval_width (`int`, *optional*):
            Width of evaluation pictures in pixels.
        eval_num_inference_steps (`int`, *optional*):
            Denoising steps of evaluation pictures. By default the family's own: 30 for FLUX.1-dev.
        eval_seed (`int`, *optional*, defaults to `1234`):
            Seed of the evaluation noise; prompt `i` uses `eval_seed + i` for base and trained alike.
        num_eval_samples (`int`, *optional*, defaults to `8`):
            Rows of the grid of base and trained pictures that each evaluation writes.
        early_stopping (`int`, *optional*):
            End training after this many evaluations in a row without a higher `eval_win_rate`. It needs an
            `eval_strategy`; `best_global_step` in `trainer_state.json` is then the best step. What is released is the
            adapter of the last step; with `load_best_model_at_end=True` and `save_strategy="best"`, of the best one.

        > Parameters that control what is written

        profile (`bool`, *optional*, defaults to `False`):
            Profile two steps: `profile/` in `output_dir` gets a trace of PyTorch's profiler and a table of where the
            time went.
        adapter_subfolder (`str`, *optional*):
            Folder inside `output_dir`, and inside the Hub repo, that holds the adapter. Defaults to `"ARR-"` followed
            by the name of the base model. `"."` is the root of both, for an adapter that is alone there:
            `load_lora_weights("user/name")` then needs no other argument.
    """

    # What an evaluation measures beside what rewards and ground truths do, by which the best model may be chosen.
    measured: ClassVar[tuple[str, ...]] = ()

    _VALID_DICT_FIELDS = [*_BaseConfig._VALID_DICT_FIELDS, "model_init_kwargs"]

    # Overridden defaults: LoRA's usual rate, columns that reward functions need, and a loss that is no number stays one.
    learning_rate: float = field(default=5e-5, metadata={"help": "The initial learning rate for AdamW."})
    remove_unused_columns: bool = field(
        default=False,
        metadata={"help": "Whether to drop the columns that the model's forward does not take. The prompt is one."},
    )

    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Log other losses in place of those that are not finite. Here they end training."},
    )

    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Keyword arguments for the pipeline's `from_pretrained`, used when `model` is a string. `dtype` "
            "defaults to bfloat16 when `bf16` is set and to float32 otherwise."
        },
    )
    max_sequence_length: Annotated[int | None, ROLLOUT] = field(
        default=None,
        metadata={
            "help": "Text tokens per prompt, as in the pipeline's `__call__`. By default that of the pipeline's own "
            "`__call__`."
        },
    )
    condition_size: Annotated[int | None, ROLLOUT] = field(
        default=None,
        metadata={
            "help": "For pipelines that edit: side in pixels of the square whose area the source is resized to. Unset, "
            "the pipeline's own; 512 halves the cost of Qwen-Image-Edit at 512 pixels."
        },
    )
    negative_prompt: Annotated[str | None, ROLLOUT] = field(
        default=None,
        metadata={"help": "What classifier-free guidance leads away from. Unset, the family's own."},
    )
    use_peft: Annotated[bool, ALWAYS] = field(
        default=True,
        metadata={"help": "Train a LoRA adapter; `false` trains all weights of the transformer, in float32."},
    )
    adapter_path: str | None = field(
        default=None,
        metadata={
            "help": "Adapter to go on training from: a folder, a LoRA file, or user/repo or user/repo/subfolder on the "
            "Hub."
        },
    )
    reference: Annotated[str, ROLLOUT] = field(
        default="base",
        metadata={
            "help": "What the KL penalty holds on to: `base`, the model without an adapter, or `adapter`, that of "
            "`adapter_path` as it was.",
            "choices": ["base", "adapter"],
        },
    )
    ema_decay: Annotated[float | None, ALWAYS] = field(
        default=None,
        metadata={
            "help": "Share of itself that an average of what is trained, which is evaluated and released, keeps after each step. "
            "Unset, there is none."
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
            "help": "Keep text encoders and autoencoder in CPU memory and bring them to the device when they are used."
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
    attn_backend: str | None = field(
        default=None,
        metadata={
            "help": "Attention kernels, by their names in diffusers, such as `flash`. Unset, what the pipeline has."
        },
    )

    height: Annotated[int, ROLLOUT] = field(default=512, metadata={"help": "Height of the pictures in pixels."})
    width: Annotated[int, ROLLOUT] = field(default=512, metadata={"help": "Width of the pictures in pixels."})
    size_from_source: Annotated[bool, ROLLOUT] = field(
        default=True,
        metadata={
            "help": "Draw an edit with the aspect ratio of its source and about the area of `height` × `width`, and not at "
            "these."
        },
    )
    guidance_scale: Annotated[float | None, ROLLOUT] = field(
        default=None,
        metadata={
            "help": "Guidance of rollout, training and evaluation, as in the pipeline's `__call__`. Unset, the family's own."
        },
    )

    shuffle_dataset: bool = field(default=True, metadata={"help": "Draw the rows in a new order each epoch."})
    shuffle_buffer_size: int = field(
        default=1000, metadata={"help": "Rows of a streamed dataset that are read and shuffled at a time."}
    )

    reward_weights: Annotated[list[float] | None, ROLLOUT] = field(
        default=None, metadata={"help": "Weight of each reward function. Unset, all 1."}
    )
    rehearse_judge: bool = field(
        default=True,
        metadata={"help": "Ask every judge one real question, about two flat pictures, before anything is loaded."},
    )
    eval_height: int | None = field(
        default=None, metadata={"help": "Height of evaluation pictures in pixels. Unset, that of the rollouts."}
    )
    eval_width: int | None = field(
        default=None, metadata={"help": "Width of evaluation pictures in pixels. Unset, that of the rollouts."}
    )
    eval_num_inference_steps: int | None = field(
        default=None, metadata={"help": "Denoising steps of evaluation pictures. Unset, the family's own."}
    )
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

    profile: bool = field(
        default=False,
        metadata={"help": "Write a trace of PyTorch's profiler and a table of where the time went to `profile/`."},
    )
    adapter_subfolder: str | None = field(
        default=None,
        metadata={
            "help": "Folder inside `output_dir`, and inside the Hub repo, that holds the adapter; `.` is the root, for one "
            "that is alone there. Unset, `ARR-` followed by the name of the base model."
        },
    )

    def __post_init__(self):
        if self.reward_weights is not None and not isinstance(self.reward_weights, list | tuple):
            raise ValueError(f"reward_weights={self.reward_weights!r} has to be a list of numbers, one per function.")
        asks_for_best = self.early_stopping is not None or self.load_best_model_at_end or self.save_strategy == "best"
        if asks_for_best and self.metric_for_best_model is None:
            # TrainingArguments would take the loss, which our evaluations do not have
            self.metric_for_best_model = "eval_win_rate"
        with warnings.catch_warnings():
            # the name that TRL, diffusers' scripts and we use; transformers has another one from 5.23 on, and the old one until 6
            warnings.filterwarnings("ignore", "`gradient_checkpointing", FutureWarning)
            super().__post_init__()
        if self.ddp_broadcast_buffers is None:
            # those of a frozen network never change, and processes that draw pictures of other sizes do not make as many forwards
            self.ddp_broadcast_buffers = False
        # Rows are text and pictures, not tensors: accelerate cannot dispatch them, and every rank reads its own.
        self.accelerator_config.dispatch_batches = False
        self._check_at_least_one(
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "eval_num_inference_steps",
            "max_sequence_length",
            "max_cached_prompts",
        )
        if self.shuffle_buffer_size < 1:
            raise ValueError(f"shuffle_buffer_size={self.shuffle_buffer_size} has to be at least one row.")
        self._check_training()
        self._check_adapter()
        self._check_full_weights()
        self._check_memory()
        if self.eval_height is None:
            self.eval_height = self.height
        if self.eval_width is None:
            self.eval_width = self.width

    @classmethod
    def from_recipe(cls, recipe: str | Path, **changed: Any) -> "FlowConfig":
        """
        The configuration of a recipe, the name of one that ships or a YAML file, with some settings changed:
        `RPOConfig.from_recipe("tiny_scenes_rpo", max_steps=100)`. Model, data and judge, which it may name too, are the
        trainer's own arguments; its adapter is [`~arr_trl.trainer.lora_from_recipe`]'s.

        Raises:
            `FileNotFoundError`: when there is no such recipe.
            `ValueError`: when it is for another trainer, or a setting cannot be.
        """
        return cls(**settings_of(recipe, cls.__dataclass_fields__, cls.__name__) | changed)

    @property
    def prompt_seed(self) -> int:
        """Seed of the order of the prompts: `data_seed`, and `seed` where there is none."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def pictures_per_draw(self) -> int:
        """Pictures that all processes draw before what is measured of them is logged; 0 where none are drawn in training."""
        return 0

    @property
    def decodes_with_gradient(self) -> bool:
        """Whether a backward pass goes through the autoencoder."""
        return False

    @property
    def keeps_reference(self) -> bool:
        """Whether the reference is a copy of what is trained, and not the base."""
        return self.reference == "adapter"

    @property
    def needs_reference(self) -> bool:
        """Whether every row that is trained on takes a forward of the reference."""
        return False

    @property
    def frozen_copies(self) -> list[str]:
        """Names of the copies of what is trained that are kept beside it."""
        return [name for name, kept in ((REFERENCE, self.keeps_reference), (EMA, self.ema_decay is not None)) if kept]

    @property
    def policy_kwargs(self) -> dict[str, Any]:
        """Settings of the policy that were given; the family has its own for the others."""
        names = ("max_sequence_length", "condition_size", "negative_prompt", "max_cached_prompts")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
