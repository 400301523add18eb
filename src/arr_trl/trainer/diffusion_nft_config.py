"""Every decision about training on noised finished pictures."""

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from ..runtime.checkpoints import ALWAYS, ROLLOUT
from .frozen_adapters import OLD
from .group_advantages_config import GroupAdvantagesConfig


@dataclass
class DiffusionNFTConfig(GroupAdvantagesConfig):
    r"""
    Configuration class for the [`DiffusionNFTTrainer`].

    It holds only what is specific to losses on noised finished pictures: advantages are described in
    [`GroupAdvantagesConfig`], rollouts in [`OnlineConfig`], model, evaluation and output in [`FlowConfig`], the rest in
    [`~transformers.TrainingArguments`]. Defaults are those of DiffusionNFT ([paper](https://huggingface.co/papers/2509.16117))
    where docs/source/benchmarks.md does not say otherwise. With [`~transformers.HfArgumentParser`] the class becomes
    command-line arguments.

    Parameters:
        > Parameters that control the rollout

        noise_level (`float`, *optional*, defaults to `0.0`):
            Noise in the steps that draw candidates, in all but the last. 0 draws them by the ODE, from separate noise
            alone. Which levels are usual depends on `sde_type`: see [`TrajectoryConfig`].
        sde_type (`str`, *optional*, defaults to `"cps"`):
            Form of that noise: `"flow"`, `"dance"` or `"cps"`.

        > Parameters that control the points that are trained on

        num_train_points (`int`, *optional*, defaults to `2`):
            Noise levels at which each finished picture is trained on, K. A candidate costs K forwards with gradient.
        timestep_range (`float`, *optional*, defaults to `0.7`):
            Share of the noise levels, from the noisiest on, that these are drawn from: those of the rollout's schedule
            with σ ≥ 1 - `timestep_range`.

        > Parameters that control the objective

        loss_type (`str`, *optional*, defaults to `"nft"`):
            `"nft"` ([DiffusionNFT](https://huggingface.co/papers/2509.16117)), `"awm"` (advantage-weighted matching,
            [paper](https://huggingface.co/papers/2509.25050)), `"dgpo"` ([DGPO](https://huggingface.co/papers/2510.08425)),
            `"crd"` (centered reward distillation, as Flow-Factory has it), or `"dpo"` (Diffusion-DPO on the candidates of
            the rollout). While the policy is the one that sampled they have one gradient up to a weight for each noise
            level; what differs is what they hold on to when it has moved.
        nft_beta (`float`, *optional*, defaults to `1.0`):
            How far the positive and the negative policy of `"nft"` and the rewards of `"crd"` lie apart from the old
            one. It drops out of the gradient of an on-policy step.
        awm_weighting (`str`, *optional*, defaults to `"uniform"`):
            What `"awm"` weighs noise levels by: `"uniform"`, `"sigma"`, `"sigma2"`, `"huber"` or `"ghuber"`.
        preference_beta (`float`, *optional*, defaults to `10.0`):
            Strength of the reference in `"dpo"` and `"dgpo"`.
        epsilon (`float`, *optional*):
            Clip range of `"awm"` and `"dgpo"`. By default nothing is clipped.
        beta (`float`, *optional*, defaults to `0.0001`):
            Weight of the squared distance of velocities from the `reference`. 0 saves a forward pass for each point;
            the distance is then measured once every `logging_steps` steps.
        old_policy_decay (`float`, *optional*, defaults to `0.0`):
            The policy that candidates are drawn with follows the trained one: after each rollout it keeps this share of
            itself, or less at first, see `old_policy_ramp`. 0 draws with the trained policy. DiffusionNFT has .5. With
            `pipelined_judge` candidates are one update older, and losses take the policy as it is for the one that drew.
        old_policy_ramp (`float`, *optional*, defaults to `0.001`):
            By how much that share grows with each optimizer step, from 0 on.
    """

    points_are: ClassVar[str] = "noise levels trained"
    rows_are: ClassVar[str] = "points"

    # Overridden defaults: a rate for LoRA of rank 32, groups of four that a judge ranks, 32 prompts for an optimizer step,
    # and neither rollout nor loss with classifier-free guidance, which the paper takes reinforcement to replace.
    learning_rate: float = field(default=3e-4, metadata={"help": "The initial learning rate for AdamW."})
    num_generations: Annotated[int, ALWAYS] = field(default=4, metadata={"help": "Candidates per prompt, at least 2."})
    gradient_accumulation_steps: int = field(
        default=64, metadata={"help": "Micro-steps per optimizer step. 64 of 4 points are 32 prompts."}
    )
    classifier_free_guidance: Annotated[str, ROLLOUT] = field(
        default="off",
        metadata={
            "help": "Where classifier-free guidance, which doubles the cost of a forward, is used: in rollout and loss "
            "(`both`), for drawing candidates only (`rollout`), or in neither (`off`).",
            "choices": ["both", "rollout", "off"],
        },
    )

    noise_level: Annotated[float, ROLLOUT] = field(
        default=0.0, metadata={"help": "Noise in the steps that draw candidates; 0 draws them by the ODE."}
    )
    sde_type: Annotated[str, ROLLOUT] = field(
        default="cps", metadata={"help": "Form of that noise.", "choices": ["flow", "dance", "cps"]}
    )
    num_train_points: Annotated[int, ROLLOUT] = field(
        default=2, metadata={"help": "Noise levels at which each finished picture is trained on."}
    )
    timestep_range: Annotated[float, ROLLOUT] = field(
        default=0.7, metadata={"help": "Share of the noise levels, the noisiest, that these are drawn from."}
    )
    loss_type: str = field(
        default="nft",
        metadata={
            "help": "`nft`, `awm`, `dgpo`, `crd` or `dpo`: one gradient on-policy, different holds off-policy.",
            "choices": ["nft", "awm", "dgpo", "crd", "dpo"],
        },
    )
    nft_beta: float = field(
        default=1.0, metadata={"help": "Distance of the two policies of `nft`, of `crd`'s rewards."}
    )
    awm_weighting: str = field(
        default="uniform",
        metadata={
            "help": "What `awm` weighs noise levels by.",
            "choices": ["uniform", "sigma", "sigma2", "huber", "ghuber"],
        },
    )
    preference_beta: float = field(default=10.0, metadata={"help": "Strength of the reference in `dpo` and `dgpo`."})
    epsilon: float | None = field(default=None, metadata={"help": "Clip range of `awm` and `dgpo`. Unset, none."})
    beta: float = field(
        default=1e-4,
        metadata={"help": "Weight of the distance from the `reference`. 0 saves a forward pass for each point."},
    )
    old_policy_decay: Annotated[float, ALWAYS] = field(
        default=0.0,
        metadata={
            "help": "Share of itself that the policy which draws keeps after a rollout; 0 draws with the trained."
        },
    )
    old_policy_ramp: Annotated[float, ALWAYS] = field(
        default=1e-3, metadata={"help": "By how much that share grows with each optimizer step, from 0 on."}
    )

    def __post_init__(self):
        super().__post_init__()
        self._check_at_least_one("num_train_points")
        self._check_one_of("loss_type", "nft", "awm", "dgpo", "crd", "dpo")
        self._check_one_of("awm_weighting", "uniform", "sigma", "sigma2", "huber", "ghuber")
        self._check_one_of("sde_type", "flow", "dance", "cps")
        if not 0 <= self.noise_level <= (1 if self.sde_type == "cps" else math.inf):
            raise ValueError(
                f"noise_level={self.noise_level} must be at least 0, and at most 1 with sde_type='cps'; 0 draws candidates by "
                "the ODE."
            )
        for name in ("nft_beta", "preference_beta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be greater than 0.")
        if self.epsilon is not None and not self.epsilon > 0:
            raise ValueError(f"epsilon={self.epsilon} must be greater than 0; leave it out to clip nothing.")
        if not self.beta >= 0:
            raise ValueError(f"beta={self.beta} must be at least 0; it is a magnitude.")
        if not 0 < self.timestep_range <= 1:
            raise ValueError(
                f"timestep_range={self.timestep_range} is a share of the noise levels, greater than 0 and at most 1."
            )
        if not 0 <= self.old_policy_decay < 1:
            raise ValueError(
                f"old_policy_decay={self.old_policy_decay} has to lie from 0 to less than 1; with 1 the policy that draws "
                "would never move."
            )
        if not self.old_policy_ramp > 0:
            raise ValueError(f"old_policy_ramp={self.old_policy_ramp} must be greater than 0.")
        if self.per_device_train_batch_size % self.num_generations:
            raise ValueError(
                f"per_device_train_batch_size={self.per_device_train_batch_size} has to be a multiple of num_generations="
                f"{self.num_generations}: the candidates of a prompt are compared in one forward pass."
            )
        self._check_rows()

    @property
    def points_per_candidate(self) -> int:
        return self.num_train_points

    @property
    def keeps_old_policy(self) -> bool:
        """Whether the policy of the rollout is another than the trained one, and kept beside it."""
        return self.old_policy_decay > 0 or self.steps_per_rollout > self.gradient_accumulation_steps

    @property
    def frozen_copies(self) -> list[str]:
        return [*super().frozen_copies, *([OLD] if self.keeps_old_policy else [])]

    @property
    def needs_reference(self) -> bool:
        """Whether every point takes a forward of the reference."""
        return self.beta > 0 or self.loss_type in ("dgpo", "dpo")
