from ..lazy import from_files
from .protocol import (
    RewardError,
    RewardFunc,
    call,
    check_columns,
    columns_of,
    get_callable_name,
    met_criteria,
    read_rewards,
    reward_list,
)


# a scorer's file imports the model's classes of transformers
__getattr__ = from_files(
    __name__,
    {
        "AestheticScore": ".clip_scorers",
        "CLIPScore": ".clip_scorers",
        "HPSv3": ".hpsv3_scorer",
        "ModelScorer": ".scorer",
        "PickScore": ".clip_scorers",
        "Scorer": ".scorer",
    },
)
__all__ = [
    "AestheticScore",
    "CLIPScore",
    "HPSv3",
    "ModelScorer",
    "PickScore",
    "RewardError",
    "RewardFunc",
    "Scorer",
    "call",
    "check_columns",
    "columns_of",
    "get_callable_name",
    "met_criteria",
    "read_rewards",
    "reward_list",
]
