from .advantages import combine_rewards, rpo_advantages
from .ppo import gaussian_kl, ppo_clip_loss, velocity_kl


__all__ = ["combine_rewards", "gaussian_kl", "ppo_clip_loss", "rpo_advantages", "velocity_kl"]
