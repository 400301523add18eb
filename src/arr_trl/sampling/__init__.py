from .forward import add_noise, stratified
from .rollout import Rollout, denoise, rollout
from .transitions import SDEType, euler_step, log_prob, transition


__all__ = [
    "Rollout",
    "SDEType",
    "add_noise",
    "denoise",
    "euler_step",
    "log_prob",
    "rollout",
    "stratified",
    "transition",
]
