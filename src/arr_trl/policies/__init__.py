from .auto import POLICIES, load_policy, policy_class_of, policy_for
from .base import FlowPolicy
from .batching import Conditioning, concatenate, select
from .flux import FluxPolicy
from .flux2 import Flux2KleinPolicy, Flux2Policy
from .flux_kontext import FluxKontextPolicy
from .qwen_image import QwenImagePolicy
from .qwen_image_edit import QwenImageEditPlusPolicy, QwenImageEditPolicy
from .sd3 import StableDiffusion3Policy
from .z_image import ZImagePolicy


__all__ = [
    "POLICIES",
    "Conditioning",
    "FlowPolicy",
    "Flux2KleinPolicy",
    "Flux2Policy",
    "FluxKontextPolicy",
    "FluxPolicy",
    "QwenImageEditPlusPolicy",
    "QwenImageEditPolicy",
    "QwenImagePolicy",
    "StableDiffusion3Policy",
    "ZImagePolicy",
    "concatenate",
    "load_policy",
    "policy_class_of",
    "policy_for",
    "select",
]
