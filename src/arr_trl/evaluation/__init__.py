from ..intervals import bootstrap_interval, rate_interval, wilson_interval
from ..lazy import from_files
from .bradley_terry import Strength, bradley_terry
from .results import EvaluationResults, SuccessRates, print_table, success_rates


# the others need torch or a judge; a file that is called like a name of its own, `bradley_terry`, cannot wait
__getattr__ = from_files(
    __name__,
    {
        "AdapterSource": ".adapters",
        "Evaluation": ".summary",
        "Evaluator": ".evaluate",
        "InferenceSettings": ".pictures",
        "WinRate": ".win_rate",
        "draw": ".pictures",
        "load_adapters": ".adapters",
        "parse_adapters": ".adapters",
        "pixel_distance": ".pixels",
        "pixel_diversity": ".pixels",
        "print_evaluation": ".summary",
        "save_samples": ".grid",
        "win_rate_from_rewards": ".win_rate",
        "win_rate_from_verdicts": ".win_rate",
        "write_report": ".report",
    },
)
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
    "rate_interval",
    "save_samples",
    "success_rates",
    "wilson_interval",
    "win_rate_from_rewards",
    "win_rate_from_verdicts",
    "write_report",
]
