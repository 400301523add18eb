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


__all__ = [
    "RewardError",
    "RewardFunc",
    "call",
    "check_columns",
    "columns_of",
    "get_callable_name",
    "met_criteria",
    "read_rewards",
    "reward_list",
]
