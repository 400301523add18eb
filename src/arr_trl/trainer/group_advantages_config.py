"""Every decision about advantages that are distances from the mean of a group, as in GRPO."""

import math
from dataclasses import dataclass, field
from typing import Annotated

from ..runtime.checkpoints import ROLLOUT
from .online_config import OnlineConfig


@dataclass
class GroupAdvantagesConfig(OnlineConfig):
    r"""
    What the configurations of trainers share whose advantages are distances from the mean of the group, in TRL's names.

    Parameters:
        > Parameters that control advantages

        scale_rewards (`str`, *optional*, defaults to `"batch"`):
            What the distance of a reward from its group's mean is divided by: the standard deviation of the `"batch"`, of
            all processes together, that of the `"group"`, or nothing (`"none"`).
        multi_objective_aggregation (`str`, *optional*, defaults to `"sum_then_normalize"`):
            How several reward functions are put together: `"sum_then_normalize"` adds the rewards up, weighted, so that
            one with large numbers drowns the others; `"normalize_then_sum"` takes advantages of each and adds those up,
            as GDPO does.
        advantage_clip (`float`, *optional*, defaults to `5.0`):
            Advantages beyond this count as much as this.
        min_reward_std (`float`, *optional*, defaults to `0.0`):
            Groups whose rewards have no larger standard deviation are masked, as in UniWorld-V2 (.05 for rewards from
            0 to 1).
        max_reward_mean (`float`, *optional*, defaults to `inf`):
            Groups whose mean reward is not below this are masked (.9 in UniWorld-V2). For rewards that mean the same in
            every group, not for ranks.
    """

    scale_rewards: Annotated[str, ROLLOUT] = field(
        default="batch",
        metadata={
            "help": "What distances from the group's mean are divided by: the standard deviation of the `batch`, of the "
            "`group`, or nothing (`none`).",
            "choices": ["batch", "group", "none"],
        },
    )
    multi_objective_aggregation: Annotated[str, ROLLOUT] = field(
        default="sum_then_normalize",
        metadata={
            "help": "How several rewards are put together: added up (`sum_then_normalize`), or as advantages of each "
            "(`normalize_then_sum`, GDPO).",
            "choices": ["sum_then_normalize", "normalize_then_sum"],
        },
    )
    advantage_clip: Annotated[float, ROLLOUT] = field(
        default=5.0, metadata={"help": "Advantages beyond this count as much as this."}
    )
    min_reward_std: Annotated[float, ROLLOUT] = field(
        default=0.0, metadata={"help": "Mask groups whose rewards have no larger standard deviation."}
    )
    max_reward_mean: Annotated[float, ROLLOUT] = field(
        default=math.inf, metadata={"help": "Mask groups whose mean reward is not below this."}
    )

    def __post_init__(self):
        super().__post_init__()
        self._check_one_of("scale_rewards", "batch", "group", "none")
        self._check_one_of("multi_objective_aggregation", "sum_then_normalize", "normalize_then_sum")
        if not self.advantage_clip > 0:
            raise ValueError(f"advantage_clip={self.advantage_clip} must be greater than 0.")
        if self.num_generations == 2 and self.scale_rewards == "group":
            raise ValueError(
                "scale_rewards='group' makes every decided pair +1 and -1, however far its rewards lie apart, since two "
                "numbers are always one standard deviation from their mean. Use 'batch' or 'none', or more candidates."
            )
