"""
What ships with the package beside its code, by name: configurations, rubrics, prompts, notebooks, scripts, and the models of
TinyScenes. Commands ask here first, so that it imports nothing heavy.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path


_PACKAGE = Path(__file__).parent
_MODELS = {
    "tiny_scenes": _PACKAGE / "tiny_scenes" / "tiny-flux",
    "tiny_scenes_edit": _PACKAGE / "tiny_scenes" / "tiny-qwen-edit",
    "tiny_scenes_vlm": _PACKAGE / "tiny_scenes" / "tiny-qwen-vl",
}
_SIZE = 32  # of the pictures that they were pre-trained on


def examples() -> Path:
    """
    The folder with `configs`, `rubrics`, `prompts` and the others: of a wheel that which `setup.py` packed beside this file,
    of a checkout the one where people read them.
    """
    packed = _PACKAGE / "examples"
    return packed if packed.is_dir() else _PACKAGE.parents[1] / "examples"


def names(kind: str) -> list[str]:
    """Names of what ships of a kind, such as `"configs"`: of files, without their endings."""
    return sorted(path.stem for path in (examples() / kind).glob("*") if path.is_file())


def find(kind: str, name: str) -> Path | None:
    """
    The file that ships under a name.

    Args:
        kind (`str`): a folder of [`examples`], such as `"rubrics"`.
        name (`str`): of the file, without its ending.

    Returns:
        `Path` or `None`: the file, `None` where there is none.
    """
    return next((path for path in sorted((examples() / kind).glob("*")) if path.stem == name), None)


def file_or_shipped(kind: str, given: str, setting: str) -> Path:
    """
    What a user names: a file, or something that ships.

    Args:
        kind (`str`): as for [`find`].
        given (`str`): a path, or a name. A file of the same name wins.
        setting (`str`): what it was given as, for the error.

    Raises:
        `FileNotFoundError`: when it is neither; the message names what is near.
    """
    path = Path(given)
    if path.is_file():
        return path
    shipped = find(kind, given)
    if shipped is not None:
        return shipped
    near = difflib.get_close_matches(path.stem, names(kind), n=1)
    raise FileNotFoundError(
        f"{setting} {given} is neither a file nor "
        + (f"the name of one that ships; did you mean `{near[0]}`?" if near else f"one of {', '.join(names(kind))}.")
    )


def place_of(model: str) -> str:
    """The folder of a model that ships with the package, and any other name as it is."""
    return str(_MODELS.get(model, model))


def check_sizes_of_shipped(model: str, sizes: Mapping[str, int]) -> None:
    """
    Hold the sizes of pictures to what a model that ships can draw: it would draw noise in any other.

    Args:
        model (`str`): model id or folder.
        sizes (`dict[str, int]`): heights and widths in pixels, by the names of their settings.

    Raises:
        `ValueError`: when the model is one of TinyScenes and a size is another than 32.
    """
    if Path(model) not in _MODELS.values():
        return
    for name, value in sizes.items():
        if value != _SIZE:
            raise ValueError(
                f"{name}={value}: the models of TinyScenes draw pictures of {_SIZE} × {_SIZE} pixels; set height and width "
                f"to {_SIZE}."
            )
