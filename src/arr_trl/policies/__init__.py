from .auto import POLICIES, load_policy, policy_for
from .base import FlowPolicy
from .batching import Conditioning, concatenate
from .flux import FluxPolicy
from .qwen_image import QwenImagePolicy
from .qwen_image_edit import QwenImageEditPlusPolicy, QwenImageEditPolicy


__all__ = [
    "POLICIES",
    "Conditioning",
    "FlowPolicy",
    "FluxPolicy",
    "QwenImageEditPlusPolicy",
    "QwenImageEditPolicy",
    "QwenImagePolicy",
    "concatenate",
    "load_policy",
    "policy_class_of",
    "policy_for",
]
