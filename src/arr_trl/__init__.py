"""
Align image generators with judges you can read.

Names are imported when they are first used, so that `import arr_trl` and `arr-trl --help` stay free of torch.
"""

from .lazy import from_files
from .version import __version__


_PUBLIC = {
    "AlignPropConfig": ".trainer",
    "AlignPropTrainer": ".trainer",
    "AutoRubric": ".autorubric",
    "AutoRubricConfig": ".autorubric",
    "Criterion": ".rubrics",
    "DiffusionDPOConfig": ".trainer",
    "DiffusionDPOTrainer": ".trainer",
    "DiffusionNFTConfig": ".trainer",
    "DiffusionNFTTrainer": ".trainer",
    "FlowGRPOConfig": ".trainer",
    "FlowGRPOTrainer": ".trainer",
    "FlowPolicy": ".policies",
    "Flux2KleinPolicy": ".policies",
    "Flux2Policy": ".policies",
    "FluxFillPolicy": ".policies",
    "FluxInpaintPolicy": ".policies",
    "FluxKontextPolicy": ".policies",
    "FluxPolicy": ".policies",
    "Krea2Policy": ".policies",
    "LongCatImagePolicy": ".policies",
    "Lumina2Policy": ".policies",
    "OvisImagePolicy": ".policies",
    "PresetJudge": ".judges",
    "QwenImage21Policy": ".policies",
    "QwenImageEditPlusPolicy": ".policies",
    "QwenImageEditPolicy": ".policies",
    "QwenImageInpaintPolicy": ".policies",
    "QwenImagePolicy": ".policies",
    "RPOConfig": ".trainer",
    "RPOTrainer": ".trainer",
    "Rubric": ".rubrics",
    "RubricJudge": ".judges",
    "StableDiffusion3Policy": ".policies",
    "TournamentJudge": ".judges",
    "Verdict": ".judges",
    "ZImageOmniPolicy": ".policies",
    "ZImagePolicy": ".policies",
}

__getattr__ = from_files(__name__, _PUBLIC)
__all__ = ["__version__", *sorted(_PUBLIC)]


def __dir__():
    return __all__
