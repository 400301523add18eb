from .auto import load_policy, policy_for
from .base import Conditioning, FlowPolicy
from .flux import FluxPolicy


__all__ = ["Conditioning", "FlowPolicy", "FluxPolicy", "load_policy", "policy_for"]
