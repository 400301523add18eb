from .advantages import rpo_advantages
from .ppo import gaussian_kl, ppo_clip_loss, velocity_kl


__all__ = ["gaussian_kl", "ppo_clip_loss", "rpo_advantages", "velocity_kl"]
