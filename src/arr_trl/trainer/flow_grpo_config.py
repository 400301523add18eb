"""Every decision of a Flow-GRPO run that other trainers on noisy steps do not have."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from ..runtime.checkpoints import ALWAYS, ROLLOUT
from .group_advantages_config import GroupAdvantagesConfig
from .trajectory_config import TrajectoryConfig


@dataclass
class FlowGRPOConfig(GroupAdvantagesConfig, TrajectoryConfig):
    r"""
    Configuration class for the [`FlowGRPOTrainer`].

    It holds only what is specific to it: advantages are described in [`GroupAdvantagesConfig`], noisy steps in
    [`TrajectoryConfig`], rollouts in [`OnlineConfig`], model, evaluation and output in [`FlowConfig`], the rest in
    [`~transformers.TrainingArguments`]. Defaults are those of Flow-GRPO for FLUX.1-dev
    ([paper](https://huggingface.co/papers/2505.05470)), in its fast form: groups of 24, three noisy steps of the first half
    of six, two optimizer steps for a rollout. What is smaller than there is for one card: four groups in an optimizer step
    of its 24, and candidates that share their initial noise, which its code does not. With
    [`~transformers.HfArgumentParser`] the class becomes command-line arguments.

    Parameters:
        > Parameters that control the objective

        loss_type (`str`, *optional*, defaults to `"ppo"`):
            As in [`TrajectoryConfig`], or for the pairs that leave one latent, with `share_initial_noise` and a window of
            one step: `"d3po"` (D3PO, [paper](https://huggingface.co/papers/2311.13231)) or `"prdp"` (PRDP,
            [paper](https://huggingface.co/papers/2402.08714)).
        epsilon (`float`, *optional*):
            Clip range. By default 1e-4 for `"ppo"`, 2e-6 for `"guard"`, and .1 for `"d3po"` and `"prdp"`, which hold on to a
            reference that does not move: outside of it a pair of `"d3po"` has no gradient, also where it would come back.
        preference_beta (`float`, *optional*, defaults to `0.1`):
            Strength of the reference in `"d3po"` and `"prdp"`. Log-probabilities are means over the latent dimensions,
            of which the papers take sums: theirs is smaller by about their number.
    """

    # Overridden defaults, as above.
    learning_rate: float = field(default=3e-4, metadata={"help": "The initial learning rate for AdamW."})
    num_generations: Annotated[int, ALWAYS] = field(
        default=24, metadata={"help": "Candidates per prompt, at least 2."}
    )
    gradient_accumulation_steps: int = field(
        default=72, metadata={"help": "Micro-steps per optimizer step. 72 of 4 transitions are four groups of 24."}
    )
    steps_per_generation: Annotated[int | None, ROLLOUT] = field(
        default=144,
        metadata={"help": "Micro-steps that train on one rollout. Unset, `gradient_accumulation_steps`."},
    )
    num_inference_steps: Annotated[int, ROLLOUT] = field(
        default=6,
        metadata={"help": "Denoising steps of a rollout, at the noise levels of the pipeline's own scheduler."},
    )
    sde_type: Annotated[str, ROLLOUT] = field(
        default="cps",
        metadata={
            "help": "Form of the noisy steps: `flow` (Flow-GRPO), `dance` (DanceGRPO) or `cps`.",
            "choices": ["flow", "dance", "cps"],
        },
    )
    noise_level: Annotated[float, ROLLOUT] = field(
        default=0.8,
        metadata={"help": "Strength of the noise: a for `flow` (.7 to 1.4) and `cps` (.8), eta for `dance` (.3)."},
    )
    sde_window_range: Annotated[list[int] | None, ROLLOUT] = field(
        default_factory=lambda: [0, 3],
        metadata={
            "help": "First step and end (exclusive) that the window is drawn from, anew for each rollout.",
            "nargs": 2,
        },
    )
    epsilon: float | None = field(
        default=None,
        metadata={"help": "Clip range of the ratio. Unset, 1e-4, 2e-6 for `guard`, and .1 for `d3po` and `prdp`."},
    )
    beta: float = field(
        default=0.0,
        metadata={"help": "Weight of the KL penalty against the `reference`. 0 saves a forward pass per transition."},
    )

    loss_type: Annotated[str, ROLLOUT] = field(
        default="ppo",
        metadata={
            "help": "`ppo`, `guard` or `dppo`; for pairs that leave one latent also `d3po` and `prdp`.",
            "choices": ["ppo", "guard", "dppo", "d3po", "prdp"],
        },
    )
    preference_beta: float = field(default=0.1, metadata={"help": "Strength of the reference in `d3po` and `prdp`."})

    _loss_types: ClassVar[tuple[str, ...]] = ("ppo", "guard", "dppo", "d3po", "prdp")

    def __post_init__(self):
        if self.epsilon is None:
            self.epsilon = {"guard": 2e-6, "d3po": 0.1, "prdp": 0.1}.get(self.loss_type, 1e-4)
        super().__post_init__()
        if not self.preference_beta > 0:
            raise ValueError(f"preference_beta={self.preference_beta} must be greater than 0.")
        if self.needs_pairs and not (self.share_initial_noise and self.window_size == 1):
            raise ValueError(
                f"loss_type={self.loss_type!r} compares candidates that leave one latent: it needs share_initial_noise=True "
                "and sde_window_size=1."
            )
        if self.needs_pairs and self.kl_fraction < 1:
            raise ValueError(f"loss_type={self.loss_type!r} needs the reference of all rows: leave kl_fraction at 1.")

    @property
    def needs_pairs(self) -> bool:
        """Whether the loss is of pairs, against the reference."""
        return self.loss_type in ("d3po", "prdp")

    @property
    def needs_reference(self) -> bool:
        return self.needs_pairs or super().needs_reference
