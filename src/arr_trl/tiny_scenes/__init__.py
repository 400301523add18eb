from ..lazy import from_files
from .edits import Edit, check_edit, edits
from .judge import TinyScenesJudge
from .preferences import preferences  # a file that is called like a name of its own cannot wait
from .scenes import Caption, SceneObject, captions, check, read, render


# the others need torch or diffusers, and who asks the judge of TinyScenes does not
__getattr__ = from_files(
    __name__,
    {
        "BASE_MODEL": ".pipeline",
        "CONDITION_SIZE": ".edit_pipeline",
        "EDIT_BASE_MODEL": ".edit_pipeline",
        "MAX_SEQUENCE_LENGTH": ".pipeline",
        "VLM_BASE_MODEL": ".vlm",
        "build_edit_pipeline": ".edit_pipeline",
        "build_pipeline": ".pipeline",
        "build_vlm": ".vlm",
        "edit_pictures": ".edit_pipeline",
        "edit_prompts": ".world",
        "edit_success": ".world",
        "how_long": ".threads",
        "load_edit_pipeline": ".edit_pipeline",
        "load_pipeline": ".pipeline",
        "pairs": ".world",
        "prompts": ".world",
        "soft_criteria": ".soft_reader",
        "soft_success": ".soft_reader",
        "success": ".world",
        "use_one_thread": ".threads",
    },
)
__all__ = [
    "BASE_MODEL",
    "CONDITION_SIZE",
    "EDIT_BASE_MODEL",
    "MAX_SEQUENCE_LENGTH",
    "VLM_BASE_MODEL",
    "Caption",
    "Edit",
    "SceneObject",
    "TinyScenesJudge",
    "build_edit_pipeline",
    "build_pipeline",
    "build_vlm",
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
