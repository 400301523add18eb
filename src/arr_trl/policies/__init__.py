from ..lazy import without_remarks


with without_remarks():
    from .auto import POLICIES, check_model, load_policy, policy_class_of, policy_for
    from .base import FlowPolicy
    from .batching import Conditioning, concatenate, passes_of_all, select
    from .flux import FluxPolicy
    from .flux2 import Flux2Policy
    from .flux2_klein import Flux2KleinPolicy
    from .flux_fill import FluxFillPolicy
    from .flux_kontext import FluxKontextPolicy
    from .handed_over import check_adaptable
    from .inpainting import FluxInpaintPolicy, QwenImageInpaintPolicy
    from .krea2 import Krea2Policy
    from .loading import read_dtype, read_dtypes
    from .longcat_image import LongCatImagePolicy
    from .lumina2 import Lumina2Policy
    from .ovis_image import OvisImagePolicy
    from .qwen_image import QwenImagePolicy
    from .qwen_image_2_1 import QwenImage21Policy
    from .qwen_image_edit import QwenImageEditPlusPolicy, QwenImageEditPolicy
    from .sd3 import StableDiffusion3Policy
    from .z_image import ZImagePolicy
    from .z_image_omni import ZImageOmniPolicy

__all__ = [
    "POLICIES",
    "Conditioning",
    "FlowPolicy",
    "Flux2KleinPolicy",
    "Flux2Policy",
    "FluxFillPolicy",
    "FluxInpaintPolicy",
    "FluxKontextPolicy",
    "FluxPolicy",
    "Krea2Policy",
    "LongCatImagePolicy",
    "Lumina2Policy",
    "OvisImagePolicy",
    "QwenImage21Policy",
    "QwenImageEditPlusPolicy",
    "QwenImageEditPolicy",
    "QwenImageInpaintPolicy",
    "QwenImagePolicy",
    "StableDiffusion3Policy",
    "ZImageOmniPolicy",
    "ZImagePolicy",
    "check_adaptable",
    "check_model",
    "concatenate",
    "load_policy",
    "passes_of_all",
    "policy_class_of",
    "policy_for",
    "read_dtype",
    "read_dtypes",
    "select",
]
