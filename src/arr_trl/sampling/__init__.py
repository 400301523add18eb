from .forward import add_noise, levels_to_train, logit_normal, stratified
from .rollout import Rollout, denoise, rollout
from .transitions import SDEType, euler_step, log_prob, transition


__all__ = [
    "Rollout",
    "SDEType",
    "add_noise",
    "denoise",
    "euler_step",
    "levels_to_train",
    "log_prob",
    "logit_normal",
    "rollout",
    "stratified",
    "transition",
]
