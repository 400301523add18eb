from ..intervals import bootstrap_interval, wilson_interval
from .adapters import AdapterSource, load_adapters, parse_adapters
from .bradley_terry import Strength, bradley_terry
from .evaluate import Evaluator
from .grid import save_samples
from .pictures import InferenceSettings, draw
from .pixels import pixel_distance, pixel_diversity
from .report import write_report
from .results import EvaluationResults, SuccessRates, print_table, success_rates
from .summary import Evaluation, print_evaluation
from .win_rate import WinRate, win_rate_from_rewards, win_rate_from_verdicts


__all__ = [
    "AdapterSource",
    "Evaluation",
    "EvaluationResults",
    "Evaluator",
    "InferenceSettings",
    "Strength",
    "SuccessRates",
    "WinRate",
    "bootstrap_interval",
    "bradley_terry",
    "draw",
    "load_adapters",
    "parse_adapters",
    "pixel_distance",
    "pixel_diversity",
    "print_evaluation",
    "print_table",
    "save_samples",
    "success_rates",
    "wilson_interval",
    "win_rate_from_rewards",
    "win_rate_from_verdicts",
    "write_report",
]
