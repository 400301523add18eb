"""
Align image generators with judges you can read.

Names are imported when they are first used, so that `import arr_trl` and `arr-trl --help` stay free of torch.
"""

from importlib import import_module

from .version import __version__


_PUBLIC = {
    "AutoRubric": "autorubric",
    "AutoRubricConfig": "autorubric",
    "Criterion": "rubrics",
    "FlowPolicy": "policies",
    "Flux2KleinPolicy": "policies",
    "Flux2Policy": "policies",
    "FluxKontextPolicy": "policies",
    "FluxPolicy": "policies",
    "QwenImageEditPlusPolicy": "policies",
    "QwenImageEditPolicy": "policies",
    "QwenImagePolicy": "policies",
    "RPOConfig": "trainer",
    "RPOTrainer": "trainer",
    "Rubric": "rubrics",
    "RubricJudge": "judges",
    "StableDiffusion3Policy": "policies",
    "Verdict": "judges",
    "ZImagePolicy": "policies",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__():
    return __all__
