from .checkpoints import CheckpointError
from .interruption import TrainingInterrupted
from .rpo_config import RPOConfig
from .rpo_trainer import RPOTrainer


__all__ = ["CheckpointError", "RPOConfig", "RPOTrainer", "TrainingInterrupted"]
