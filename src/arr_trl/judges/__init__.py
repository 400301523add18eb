from ..lazy import from_files
from .calibration import Calibration
from .ensemble import EnsembleJudge
from .mean import MeanOf
from .preset import Ask, ImageRule, Preset
from .preset_judge import PresetJudge
from .preset_source import load_preset, preset_names, save_preset
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
    "Ask",
    "Calibration",
    "CriterionResult",
    "EnsembleJudge",
    "ImageRule",
    "JudgeFailureError",
    "JudgeFuture",
    "JudgeReward",
    "JudgeRow",
    "JudgeStats",
    "MeanOf",
    "Preset",
    "PresetJudge",
    "RubricJudge",
    "ScorerJudge",
    "SoftTIFA",
    "StoreError",
    "StoredAnswer",
    "TournamentJudge",
    "Verdict",
    "VerdictStore",
    "load_preset",
    "preset_names",
    "save_preset",
]
