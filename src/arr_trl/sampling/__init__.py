from .backprop import Velocity, decode_one_by_one, denoise_with_gradient, jump_to_end, leap
from .forward import add_noise, levels_to_train, logit_normal, stratified
from .rollout import Rollout, denoise, rollout
from .transitions import SDEType, euler_step, log_prob, transition


__all__ = [
    "Rollout",
    "SDEType",
    "Velocity",
    "add_noise",
    "decode_one_by_one",
    "denoise",
    "denoise_with_gradient",
    "euler_step",
    "jump_to_end",
    "leap",
    "levels_to_train",
    "log_prob",
    "logit_normal",
    "rollout",
    "stratified",
    "transition",
]
