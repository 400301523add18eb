"""Every decision about training on given preferences."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from ..runtime.checkpoints import ALWAYS
from .flow_config import FlowConfig


@dataclass
class DiffusionDPOConfig(FlowConfig):
    r"""
    Configuration class for the [`DiffusionDPOTrainer`].

    It holds only what is specific to preference data: model, evaluation and output are described in [`FlowConfig`], the rest
    in [`~transformers.TrainingArguments`]. With [`~transformers.HfArgumentParser`] the class becomes command-line arguments.

    Parameters:
        > Parameters that control the objective

        beta (`float`, *optional*, defaults to `2000.0`):
            How strongly the reference is held on to. The matching errors that it multiplies are means over the latent
            dimensions, so that values are large: 2000 to 5000 for the paper's own models, 100 for LoRA on SD3.5 in public
            code.
        loss_type (`str`, *optional*, defaults to `"sigmoid"`):
            `"sigmoid"` ([Diffusion-DPO](https://huggingface.co/papers/2311.12908)), `"sdpo"`
            ([Diffusion-SDPO](https://huggingface.co/papers/2511.03317): a step may not raise the error of the winner), or
            `"rank"` ([RankDPO](https://huggingface.co/papers/2410.18013): all pairs of a ranked row, which may have more
            than two pictures, weighed by what exchanging them costs the ranking).
        label_smoothing (`float`, *optional*, defaults to `0.0`):
            Probability that a label is the wrong way round, less than .5, as in TRL's `DPOTrainer`. Of `"sigmoid"` alone.
        sync_ref_model (`bool`, *optional*, defaults to `False`):
            Let the reference follow the trained adapter every `ref_model_sync_steps` steps, as in TRL.
        ref_model_mixup_alpha (`float`, *optional*, defaults to `0.6`):
            Share of the trained adapter in the reference that results; 1 puts it in its place.
        ref_model_sync_steps (`int`, *optional*, defaults to `512`):
            Optimizer steps between two of these.

        > Parameters that control the points that are trained on

        num_train_points (`int`, *optional*, defaults to `4`):
            Noise levels at which each picture is trained on, K, whose errors are averaged inside the sigmoid. With one, what
            its noise did by chance decides. A pair costs 2K forwards with gradient and 2K of the reference.
        timestep_sampling (`str`, *optional*, defaults to `"logit_normal"`):
            Where they are drawn: `"logit_normal"`, as Stable Diffusion 3 was trained, or `"schedule"`, the levels of the
            pipeline's own schedule of `eval_num_inference_steps` steps.
        timestep_range (`float`, *optional*, defaults to `1.0`):
            With `"schedule"`, the share of the levels, from the noisiest on, that they are drawn from: those with
            σ ≥ 1 - `timestep_range`.
        pair_noise (`str`, *optional*, defaults to `"shared"`):
            `"shared"`: both pictures are noised with the same noise. `"own"`: each with the one that it was drawn from, as
            [PNAPO](https://huggingface.co/papers/2605.09433) has it; rows need `chosen_noise` and `rejected_noise`.

        > Parameters that control the data

        max_cached_pictures (`int`, *optional*, defaults to `1024`):
            How many encoded pictures are kept in CPU memory, the last used: .26 MB each at 512 pixels for FLUX.1. With
            `prompt_cache_dir` all of them are kept on disk.
        shuffle_buffer_size (`int`, *optional*, defaults to `256`):
            Rows of a streamed dataset that are read and shuffled at a time, with their pictures as they are stored.
        num_label_checks (`int`, *optional*, defaults to `32`):
            Where a judge is given, how many pairs it is asked about before training, so that it is told when it would have
            labelled them the other way round. 0 asks about none.

        > Parameters that control evaluation

        num_eval_prompts (`int`, *optional*, defaults to `64`):
            Distinct prompts of the held-out pairs of which base and trained draw pictures, where a judge or ground truths
            look at them; the implicit accuracy is that of all pairs. Without either, `num_eval_samples`.
    """

    measured: ClassVar[tuple[str, ...]] = ("rewards/accuracies", "rewards/margins")

    # Overridden defaults: a pair is 2K rows of a forward pass, and 32 of them make an optimizer step.
    per_device_train_batch_size: int = field(
        default=1, metadata={"help": "Pairs in one forward and backward pass: the memory knob."}
    )
    gradient_accumulation_steps: int = field(default=32, metadata={"help": "Micro-steps per optimizer step."})

    beta: float = field(default=2000.0, metadata={"help": "How strongly the reference is held on to."})
    loss_type: str = field(
        default="sigmoid",
        metadata={
            "help": "`sigmoid` (Diffusion-DPO), `sdpo` (no step raises the winner's error) or `rank` (rows with more than "
            "two pictures).",
            "choices": ["sigmoid", "sdpo", "rank"],
        },
    )
    label_smoothing: float = field(
        default=0.0, metadata={"help": "Probability that a label is the wrong way round, of `sigmoid`."}
    )
    sync_ref_model: Annotated[bool, ALWAYS] = field(
        default=False, metadata={"help": "Let the reference follow the trained adapter."}
    )
    ref_model_mixup_alpha: float = field(
        default=0.6, metadata={"help": "Share of the trained adapter in the reference that results."}
    )
    ref_model_sync_steps: int = field(default=512, metadata={"help": "Optimizer steps between two of these."})

    num_train_points: int = field(
        default=4,
        metadata={"help": "Noise levels of each picture, whose errors are averaged inside the sigmoid."},
    )
    timestep_sampling: str = field(
        default="logit_normal",
        metadata={
            "help": "Where they are drawn: `logit_normal`, or `schedule`, the pipeline's own of "
            "`eval_num_inference_steps` steps.",
            "choices": ["logit_normal", "schedule"],
        },
    )
    timestep_range: float = field(
        default=1.0, metadata={"help": "With `schedule`, the share of the levels, the noisiest, that they are of."}
    )
    pair_noise: str = field(
        default="shared",
        metadata={
            "help": "`shared`: both pictures are noised alike. `own`: each with what it was drawn from (PNAPO), which rows "
            "have to know.",
            "choices": ["shared", "own"],
        },
    )

    max_cached_pictures: int = field(
        default=1024, metadata={"help": "Encoded pictures that are kept in CPU memory, the last used."}
    )
    shuffle_buffer_size: int = field(
        default=256, metadata={"help": "Rows of a streamed dataset that are read and shuffled at a time."}
    )
    num_label_checks: int = field(
        default=32,
        metadata={"help": "Pairs that a judge is asked about before training, to tell swapped labels. 0 asks none."},
    )

    num_eval_prompts: int = field(
        default=64,
        metadata={
            "help": "Distinct prompts of the held-out pairs that are drawn where a judge or ground truths look."
        },
    )

    def __post_init__(self):
        if self.metric_for_best_model is None and (
            self.early_stopping is not None or self.load_best_model_at_end or self.save_strategy == "best"
        ):
            self.metric_for_best_model = "eval_rewards/accuracies"  # which there is without a judge, too
        super().__post_init__()
        self._check_at_least_one(
            "num_train_points",
            "ref_model_sync_steps",
            "max_cached_pictures",
            "shuffle_buffer_size",
            "num_eval_prompts",
        )
        self._check_one_of("loss_type", "sigmoid", "sdpo", "rank")
        self._check_one_of("timestep_sampling", "logit_normal", "schedule")
        self._check_one_of("pair_noise", "shared", "own")
        if not self.beta > 0:
            raise ValueError(f"beta={self.beta} must be greater than 0.")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(
                f"label_smoothing={self.label_smoothing} is a probability, 0 or greater and less than .5, where labels say "
                "nothing."
            )
        if self.label_smoothing and self.loss_type != "sigmoid":
            raise ValueError(
                f"label_smoothing={self.label_smoothing} goes with loss_type='sigmoid' alone; leave it out."
            )
        if not 0 < self.timestep_range <= 1:
            raise ValueError(
                f"timestep_range={self.timestep_range} is a share of the noise levels, greater than 0 and at most 1."
            )
        if self.timestep_range < 1 and self.timestep_sampling != "schedule":
            raise ValueError(
                f"timestep_range={self.timestep_range} is of the levels of a schedule; set timestep_sampling='schedule', or "
                "leave it out."
            )
        if self.pair_noise == "own" and self.loss_type == "rank":
            raise ValueError("pair_noise='own' is for pairs; with loss_type='rank' set pair_noise='shared'.")
        if not 0 < self.ref_model_mixup_alpha <= 1:
            raise ValueError(
                f"ref_model_mixup_alpha={self.ref_model_mixup_alpha} is a share, greater than 0 and at most 1."
            )
        if self.num_label_checks < 0:
            raise ValueError(f"num_label_checks={self.num_label_checks} is a number of pairs, 0 for none.")
        if self.sync_ref_model and self.adapter_path is not None and self.reference == "base":
            raise ValueError(
                "sync_ref_model=True lets the reference follow from where training begins, and with `adapter_path` that is "
                "not the base: set reference='adapter'."
            )

    @property
    def keeps_reference(self) -> bool:
        return super().keeps_reference or self.sync_ref_model

    @property
    def needs_reference(self) -> bool:
        return True

    @property
    def pairs_per_step(self) -> int:
        """Pairs of an optimizer step on one device."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps
