from .checkpoints import CheckpointError
from .interruption import TrainingInterrupted
from .rewards import RewardError
from .rpo_config import RPOConfig
from .rpo_trainer import RPOTrainer


__all__ = ["CheckpointError", "RPOConfig", "RPOTrainer", "RewardError", "TrainingInterrupted"]
