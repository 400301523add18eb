from .config import AutoRubricConfig
from .pipeline import AutoRubric, describe_rubric
from .report import PairOutcome, Report
from .writer import AutoRubricError, Writer


__all__ = [
    "AutoRubric",
    "AutoRubricConfig",
    "AutoRubricError",
    "PairOutcome",
    "Report",
    "Writer",
    "describe_rubric",
]
