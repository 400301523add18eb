from .best_worst import BestWorst
from .config import BestWorstConfig, RichPairsConfig
from .outcome import PairOutcome, PairsError
from .painter import Painter
from .rich import RichPairs


__all__ = [
    "BestWorst",
    "BestWorstConfig",
    "Painter",
    "PairOutcome",
    "PairsError",
    "RichPairs",
    "RichPairsConfig",
]
