"""Labelled pairs of images, in the layouts that preference data are published in."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from datasets import Image as ImageFeature
from datasets import load_dataset
from diffusers.utils import load_image
from PIL import Image, UnidentifiedImageError


_BUILDERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
_PROMPT = ("prompt", "query", "instruction", "caption")
_SOURCE = ("source_image", "base_image", "original_image", "input_image", "reference_image")
_IMAGES = (
    "response", "responses", "images", "image_paths", "generated_images",
    "edited_images", "target_images", "output_images", "result_images",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Preference:
    """
    Two images of one prompt and which of them people preferred.

    Args:
        prompt (`str`): the caption, or the instruction of an edit.
        images (`tuple[PIL.Image.Image, PIL.Image.Image]`): in the order of the data.
        winner (`int`): 0 or 1.
        source_image (`PIL.Image.Image`, *optional*): the image that was edited.
        category (`str`, *optional*): what the row is filed under.
    """

    prompt: str
    images: tuple[Image.Image, Image.Image]
    winner: int
    source_image: Image.Image | None = None
    category: str | None = None


def load_preferences(name: str, config: str | None = None, split: str = "train") -> Iterator[Preference | str]:
    """
    Pairs of a dataset, read as they are needed. A row that cannot be used comes as a sentence that says why, so that
    one missing file does not stop the other thousands. Pairs that people found level are left out.

    Args:
        name (`str`): dataset on the Hub, which is streamed, or a .jsonl, .json or .parquet file.
        config (`str`, *optional*): configuration name of the dataset.
        split (`str`, *optional*, defaults to `"train"`): split; a file has only this one.

    Raises:
        `FileNotFoundError`: when there is no such file.
    """
    path = Path(name)
    if path.suffix in _BUILDERS:
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}; check `dataset`.")
        rows = load_dataset(_BUILDERS[path.suffix], data_files=name, split="train", streaming=True)
        return read_preferences(rows, path.parent)
    rows = load_dataset(name, config, split=split, streaming=True)
    for column, feature in (rows.features or {}).items():
        if isinstance(feature, ImageFeature):  # decoded here, where a broken file is one row and not the end
            rows = rows.cast_column(column, ImageFeature(decode=False))
    return read_preferences(rows, Path())


def read_preferences(rows: Iterable[dict[str, Any]], folder: Path) -> Iterator[Preference | str]:
    """
    Pairs from rows in any of the known layouts; a sentence for a row that is in none of them.

    Args:
        rows (`Iterable[dict]`): rows with
            - a prompt, images (a list) and `label_rank`, 1 for the best, from which every two of different rank make a
              pair;
            - `caption`, `jpg_0`, `jpg_1`, `label_0` (Pick-a-Pic); or
            - `prompt`, `path1`, `path2`, the first better (HPDv3); or
            - a prompt, `chosen` and `rejected`.
        folder (`Path`): what relative paths are relative to.
    """
    for number, row in enumerate(rows):
        try:
            yield from _pairs(row, folder)
        except (ValueError, TypeError, OSError, UnidentifiedImageError) as error:
            yield f"Row {number}: {error}"


def _pairs(row: dict[str, Any], folder: Path) -> Iterator[Preference]:
    prompt = _first(row, _PROMPT)
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"it has no prompt; name the column {', '.join(_PROMPT[:-1])} or {_PROMPT[-1]}.")
    images, ranks = _ranked(row)
    source = _first(row, _SOURCE)
    shared = {
        "prompt": prompt,
        "source_image": None if source is None else _image(source, folder),
        "category": None if row.get("category") is None else str(row["category"]),
    }
    for i, j in combinations(range(len(images)), 2):
        if ranks[i] != ranks[j]:
            pair = (_image(images[i], folder), _image(images[j], folder))
            yield Preference(images=pair, winner=int(ranks[i] > ranks[j]), **shared)


def _ranked(row: dict[str, Any]) -> tuple[list, list]:
    """The images of a row as they are stored, and their ranks, lower is better."""
    if row.get("jpg_0") is not None and row.get("label_0") is not None:
        return [row["jpg_0"], row["jpg_1"]], [1 - row["label_0"], row["label_0"]]
    if row.get("path1") is not None and row.get("path2") is not None:
        return [row["path1"], row["path2"]], [1, 2]
    if row.get("chosen") is not None and row.get("rejected") is not None:
        return [row["chosen"], row["rejected"]], [1, 2]
    images, ranks = _first(row, _IMAGES), row.get("label_rank")
    if not isinstance(images, list) or ranks is None:
        raise ValueError(f"it holds no labelled pair; it has {', '.join(row)}.")
    if len(images) < 2 or len(images) != len(ranks):
        raise ValueError(f"it has {len(images)} images and {len(ranks)} ranks.")
    return images, ranks


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _image(stored: Any, folder: Path) -> Image.Image:
    if isinstance(stored, dict):  # the storage form of an `Image` column
        stored = stored["path"] if stored.get("bytes") is None else stored["bytes"]
    if isinstance(stored, bytes):
        stored = Image.open(io.BytesIO(stored))
    if isinstance(stored, str) and not stored.startswith(("http://", "https://")):
        stored = str(folder / stored)
    return load_image(stored)
