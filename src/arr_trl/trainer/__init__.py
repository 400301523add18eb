from ..lazy import without_remarks


with without_remarks():
    from ..rewards import RewardError
    from ..runtime import CheckpointError, TrainingInterrupted
    from .align_prop_config import AlignPropConfig
    from .align_prop_trainer import AlignPropTrainer
    from .diffusion_dpo_config import DiffusionDPOConfig
    from .diffusion_dpo_trainer import DiffusionDPOTrainer
    from .diffusion_nft_config import DiffusionNFTConfig
    from .diffusion_nft_trainer import DiffusionNFTTrainer
    from .flow_config import FlowConfig
    from .flow_grpo_config import FlowGRPOConfig
    from .flow_grpo_trainer import FlowGRPOTrainer
    from .flow_trainer import FlowTrainer
    from .group_advantages_config import GroupAdvantagesConfig
    from .online_config import OnlineConfig
    from .online_trainer import OnlineTrainer
    from .recipes import lora_from_recipe
    from .rpo_config import RPOConfig
    from .rpo_trainer import RPOTrainer
    from .trajectory_config import TrajectoryConfig
    from .trajectory_trainer import TrajectoryTrainer

__all__ = [
    "AlignPropConfig",
    "AlignPropTrainer",
    "CheckpointError",
    "DiffusionDPOConfig",
    "DiffusionDPOTrainer",
    "DiffusionNFTConfig",
    "DiffusionNFTTrainer",
    "FlowConfig",
    "FlowGRPOConfig",
    "FlowGRPOTrainer",
    "FlowTrainer",
    "GroupAdvantagesConfig",
    "OnlineConfig",
    "OnlineTrainer",
    "RPOConfig",
    "RPOTrainer",
    "RewardError",
    "TrainingInterrupted",
    "TrajectoryConfig",
    "TrajectoryTrainer",
    "lora_from_recipe",
]
