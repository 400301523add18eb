from .background_push import BackgroundPush, create_repo
from .checkpoints import CheckpointError
from .interruption import TrainingInterrupted
from .resumable_trainer import ResumableTrainer


__all__ = ["BackgroundPush", "CheckpointError", "ResumableTrainer", "TrainingInterrupted", "create_repo"]
