from .judge import TinyScenesJudge
from .pipeline import BASE_MODEL, MAX_SEQUENCE_LENGTH, build_pipeline, load_pipeline
from .preferences import preferences
from .scenes import Caption, SceneObject, captions, check, read, render
from .world import prompts, success


__all__ = [
    "BASE_MODEL",
    "MAX_SEQUENCE_LENGTH",
    "Caption",
    "SceneObject",
    "TinyScenesJudge",
    "build_pipeline",
    "captions",
    "check",
    "load_pipeline",
    "preferences",
    "prompts",
    "read",
    "render",
    "success",
]
