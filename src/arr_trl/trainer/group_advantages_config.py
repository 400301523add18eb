"""Every decision about advantages that are distances from the mean of a group, as in GRPO."""

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
        min_reward_std (`float`, *optional*):
            Groups whose rewards have a smaller standard deviation are masked, as in UniWorld-V2 (.05 for rewards from
            0 to 1).
        max_reward_mean (`float`, *optional*):
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
    min_reward_std: Annotated[float | None, ROLLOUT] = field(
        default=None, metadata={"help": "Mask groups whose rewards have a smaller standard deviation. Unset, none."}
    )
    max_reward_mean: Annotated[float | None, ROLLOUT] = field(
        default=None, metadata={"help": "Mask groups whose mean reward is not below this. Unset, none."}
    )

    def __post_init__(self):
        super().__post_init__()
        self._check_one_of("scale_rewards", "batch", "group", "none")
        self._check_one_of("multi_objective_aggregation", "sum_then_normalize", "normalize_then_sum")
        if self.num_generations == 2 and self.scale_rewards == "group":
            raise ValueError(
                "scale_rewards='group' makes every decided pair +1 and -1, however far its rewards lie apart, since two "
                "numbers are always one standard deviation from their mean. Use 'batch' or 'none', or more candidates."
            )
