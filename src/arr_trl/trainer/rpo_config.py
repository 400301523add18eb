"""Every decision of an RPO run that other trainers do not have."""

from dataclasses import dataclass, field
from typing import Annotated

from ..runtime.checkpoints import ROLLOUT
from .trajectory_config import TrajectoryConfig


@dataclass
class RPOConfig(TrajectoryConfig):
    r"""
    Configuration class for the [`RPOTrainer`].

    It holds only what is specific to RPO: noisy steps are described in [`TrajectoryConfig`], rollouts in
    [`OnlineConfig`], model, evaluation and output in [`FlowConfig`], the rest in [`~transformers.TrainingArguments`].
    Defaults are the paper's for FLUX.1-dev ([paper](https://huggingface.co/papers/2605.08354)) where it gives one. With
    [`~transformers.HfArgumentParser`] the class becomes command-line arguments.

    Parameters:
        > Parameters that control the objective

        positive_reward (`float`, *optional*, defaults to `1.0`):
            Advantage of the preferred candidate.
        negative_reward (`float`, *optional*, defaults to `0.1`):
            Magnitude of the dispreferred candidate's negative advantage.
        center_rewards (`bool`, *optional*, defaults to `False`):
            Subtract the mean of the two, .45 by default. It changes no expectation and lowers the variance.
    """

    gradient_accumulation_steps: int = field(
        default=112,
        metadata={
            "help": "Micro-steps per optimizer step. By default 4 x 112 transitions are the paper's 32 pairs with seven "
            "trained steps each."
        },
    )

    positive_reward: Annotated[float, ROLLOUT] = field(
        default=1.0, metadata={"help": "Advantage of the preferred candidate."}
    )
    negative_reward: Annotated[float, ROLLOUT] = field(
        default=0.1, metadata={"help": "Magnitude of the dispreferred candidate's negative advantage."}
    )
    center_rewards: Annotated[bool, ROLLOUT] = field(
        default=False,
        metadata={
            "help": "Subtract the mean of the two rewards, which lowers the variance and changes no expectation."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.positive_reward > 0:
            raise ValueError(f"positive_reward={self.positive_reward} must be greater than 0.")
        if not self.negative_reward >= 0:
            raise ValueError(f"negative_reward={self.negative_reward} must be at least 0; it is a magnitude.")
