from ..rewards import RewardError
from ..runtime import CheckpointError, TrainingInterrupted
from .diffusion_nft_config import DiffusionNFTConfig
from .diffusion_nft_trainer import DiffusionNFTTrainer
from .flow_config import FlowConfig
from .flow_trainer import FlowTrainer
from .online_config import OnlineConfig
from .online_trainer import OnlineTrainer
from .rpo_config import RPOConfig
from .rpo_trainer import RPOTrainer
from .trajectory_config import TrajectoryConfig
from .trajectory_trainer import TrajectoryTrainer


__all__ = [
    "CheckpointError",
    "DiffusionNFTConfig",
    "DiffusionNFTTrainer",
    "FlowConfig",
    "FlowTrainer",
    "OnlineConfig",
    "OnlineTrainer",
    "RPOConfig",
    "RPOTrainer",
    "RewardError",
    "TrainingInterrupted",
    "TrajectoryConfig",
    "TrajectoryTrainer",
]
