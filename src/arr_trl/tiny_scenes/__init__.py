from .edit_pipeline import CONDITION_SIZE, EDIT_BASE_MODEL, build_edit_pipeline, edit_pictures, load_edit_pipeline
from .edits import Edit, check_edit, edits
from .judge import TinyScenesJudge
from .pipeline import BASE_MODEL, MAX_SEQUENCE_LENGTH, build_pipeline, load_pipeline
from .preferences import preferences
from .scenes import Caption, SceneObject, captions, check, read, render
from .soft_reader import soft_criteria, soft_success
from .threads import how_long, use_one_thread
from .world import edit_prompts, edit_success, pairs, prompts, success


__all__ = [
    "BASE_MODEL",
    "CONDITION_SIZE",
    "EDIT_BASE_MODEL",
    "MAX_SEQUENCE_LENGTH",
    "Caption",
    "Edit",
    "SceneObject",
    "TinyScenesJudge",
    "build_edit_pipeline",
    "build_pipeline",
    "captions",
    "check",
    "check_edit",
    "edit_pictures",
    "edit_prompts",
    "edit_success",
    "edits",
    "how_long",
    "load_edit_pipeline",
    "load_pipeline",
    "pairs",
    "preferences",
    "prompts",
    "read",
    "render",
    "soft_criteria",
    "soft_success",
    "success",
    "use_one_thread",
]
