"""Where a preset may come from: the package, a file, or a repository on the Hub."""

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError
from pydantic import ValidationError

from ..folders import replacing
from ..shipped import find
from ..text_files import read_json_of, read_text
from .preset import Ask, Preset


PRESET_FILE = "preset.json"
BESIDE = "."  # the `weights` of a trained judge, which lie beside its question
_FOLDER = Path(__file__).parent / "presets"
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_TEMPLATE_FILE = re.compile(r"[\w-][\w.-]*\.jinja2?")


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def load_preset(preset: Preset | str | Path) -> Preset:
    """
    The preset that is meant.

    Args:
        preset ([`Preset`] or `str` or `Path`):
            A preset; the name of one that comes with the package, among them those of TinyScenes; a JSON file with its
            templates beside it, or their folder; a repository on the Hub (`"user/name"`, its `preset.json`). A file wins
            over a repository of the same name.

    Raises:
        `FileNotFoundError`: when there is none of these.
        `ValueError`: when what is there is not a preset.
    """
    if isinstance(preset, Preset):
        return preset
    path = Path(preset)
    if str(preset) in preset_names():
        path = _FOLDER / f"{preset}.json"
    elif path.is_dir():
        path = path / PRESET_FILE
    elif not path.is_file():
        path = find("judges", str(preset)) or path
    if path.is_file():
        return _beside(_read(str(path), path, lambda name: path.parent / name), str(path.parent))
    if path.suffix == ".json" or not _REPO.fullmatch(str(preset)):
        near = difflib.get_close_matches(str(preset), preset_names(), n=1)
        raise FileNotFoundError(
            f"There is no preset {preset}"
            + (f"; did you mean {near[0]}?" if near else ", and no such file.")
            + " `arr-trl judge list` shows those that come with arr_trl."
        )
    repo = str(preset)
    try:
        file = Path(hf_hub_download(repo, PRESET_FILE))
        return _beside(_read(repo, file, lambda name: Path(hf_hub_download(repo, name))), repo)
    except (RepositoryNotFoundError, EntryNotFoundError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"There is no file {repo}, and no `{PRESET_FILE}` with its templates in a repository {repo} on the Hub that can "
            "be reached; check the name of the preset."
        ) from error


def with_settings(preset: Preset, **settings: Any) -> Preset:
    """
    A preset with other settings, those that are not `None`. Without a temperature every reply is the same, so that passes
    and second samples go with it.

    Raises:
        `ValueError`: when they do not fit the preset.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if given.get("temperature") == 0:
        given = {"resample": False, "passes": 1} | given
    if not given:
        return preset
    try:
        return Preset.model_validate({**dict(preset), **given})
    except ValidationError as error:
        raise ValueError(f"The preset {preset.name} cannot have these settings: {_told(error)}.") from None


def save_preset(preset: Preset, folder: str | Path) -> Path:
    """
    Write a preset as `preset.json` with its templates beside it, to be edited or pushed to the Hub.

    Returns:
        `Path`: the JSON file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def with_file(ask: Ask) -> Ask:
        (folder / f"{ask.name}.jinja2").write_text(ask.template, encoding="utf-8")
        return ask.model_copy(update={"template": f"{ask.name}.jinja2"})

    before = None if preset.before is None else with_file(preset.before)
    written = preset.model_copy(update={"asks": tuple(map(with_file, preset.asks)), "before": before})
    with replacing(folder / PRESET_FILE) as file:
        file.write_text(written.model_dump_json(indent=2, exclude_defaults=True) + "\n", encoding="utf-8")
    return folder / PRESET_FILE


def _beside(preset: Preset, place: str) -> Preset:
    """The preset of a trained judge with its weights by their name: they are where it is."""
    return preset.model_copy(update={"weights": place}) if preset.weights == BESIDE else preset


def _read(name: str, path: Path, file_of: Callable[[str], Path]) -> Preset:
    data = read_json_of(read_text(path), f"The preset {name}")
    if not isinstance(data, dict):
        raise ValueError(f"{name} is not a preset, which is a JSON object; see the docs on judge presets.")
    asks = data.get("asks") if isinstance(data.get("asks"), list) else []
    for ask in [*asks, data.get("before")]:
        if isinstance(ask, dict) and isinstance(ask.get("template"), str):
            ask["template"] = _template(name, ask["template"], file_of)
    try:
        return Preset.model_validate(data)
    except ValidationError as error:
        raise ValueError(f"{name} is not a preset: {_told(error)}.") from error


def _template(name: str, template: str, file_of: Callable[[str], Path]) -> str:
    """The text of a template: a file beside the preset, and of no other folder, whose text would go to a server."""
    if not template.endswith((".jinja2", ".jinja")) or "\n" in template:
        return template
    if not _TEMPLATE_FILE.fullmatch(template):
        raise ValueError(f"{name} is not a preset: the template {template!r} has to stand beside it.")
    path = file_of(template)
    if not path.is_file():
        raise FileNotFoundError(f"The preset {name} names the template {template}, which is not beside it.")
    return read_text(path)


def _told(error: ValidationError) -> str:
    places = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()]
    return "; ".join((f"`{place}`: " if place else "") + said for place, said in places)
