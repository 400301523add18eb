from ..lazy import from_files
from .calibration import Calibration
from .ensemble import EnsembleJudge
from .mean import MeanOf
from .reward import JudgeFailureError, JudgeFuture, JudgeReward
from .row import JudgeRow
from .rubric_judge import RubricJudge
from .soft_tifa import SoftTIFA
from .stats import JudgeStats
from .store import StoredAnswer, StoreError, VerdictStore
from .tournament import TournamentJudge
from .verdict import CriterionResult, Verdict


__getattr__ = from_files(__name__, {"ScorerJudge": ".scorer_judge"})  # it needs torch
__all__ = [
    "Calibration",
    "CriterionResult",
    "EnsembleJudge",
    "JudgeFailureError",
    "JudgeFuture",
    "JudgeReward",
    "JudgeRow",
    "JudgeStats",
    "MeanOf",
    "RubricJudge",
    "ScorerJudge",
    "SoftTIFA",
    "StoreError",
    "StoredAnswer",
    "TournamentJudge",
    "Verdict",
    "VerdictStore",
]
