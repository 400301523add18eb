from .rollout import Rollout, denoise, rollout
from .transitions import SDEType, euler_step, log_prob, transition


__all__ = ["Rollout", "SDEType", "denoise", "euler_step", "log_prob", "rollout", "transition"]
