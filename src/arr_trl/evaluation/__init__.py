from .grid import save_samples
from .results import EvaluationResults, SuccessRates, print_table, success_rates
from .win_rate import WinRate, wilson_interval, win_rate_from_rewards, win_rate_from_verdicts


__all__ = [
    "EvaluationResults",
    "SuccessRates",
    "WinRate",
    "print_table",
    "save_samples",
    "success_rates",
    "wilson_interval",
    "win_rate_from_rewards",
    "win_rate_from_verdicts",
]
