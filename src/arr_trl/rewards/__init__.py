from .protocol import RewardError, RewardFunc, call, columns_of, met_criteria, read_rewards, reward_list


__all__ = ["RewardError", "RewardFunc", "call", "columns_of", "met_criteria", "read_rewards", "reward_list"]
