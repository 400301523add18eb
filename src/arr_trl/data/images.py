"""Pictures as columns hold them, made into what policies and judges look at: RGB, upright, whole."""

import base64
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import datasets
import fsspec
import requests
from datasets import Dataset, IterableDataset
from PIL import Image, UnidentifiedImageError
from tenacity import retry, retry_if_not_exception_type, stop_after_attempt, wait_exponential_jitter

from ..digests import image_digest
from ..rgb import as_rgb, check_white


# What policies, judges and reward functions call the picture that an instruction edits.
SOURCE_COLUMN = "source_image"
MASK_COLUMN = "mask_image"  # of pipelines that draw a part of the source anew

# Less than a latent cell shows nothing; more than this is a mistake, or a file made to fill the memory.
_SMALLEST_SIDE, _LARGEST_SIDE = 8, 8192  # pixels
_SHOWN = 200  # characters of a name or a prompt in a sentence
_LARGEST_RATIO = 100  # of the longer side to the shorter; encoders refuse 200


class RowError(RuntimeError):
    """A row of the dataset cannot be used, which was found when its turn came."""


def load_image(value: Any) -> Image.Image | list[Image.Image]:
    """
    The picture that a column holds.

    Turned as its EXIF data say; transparency laid on white; greyscale, palettes and CMYK converted.

    Args:
        value (`PIL.Image.Image`, `dict`, `bytes`, `str`, `os.PathLike` or a `list` of them):
            A picture, the `{"bytes": ..., "path": ...}` of an `Image` column, the content of a file, a path or a URL;
            or several references.

    Returns:
        `PIL.Image.Image`: RGB, loaded. A list of them for a list.

    Raises:
        `ValueError`: when it cannot be read, or a side has less than 8 or more than 8192 pixels.
    """
    images = [_load_one(item) for item in _listed(value)]
    return images if isinstance(value, list | tuple) else images[0]


def load_mask(value: Any, source: Image.Image | list[Image.Image] | None) -> Image.Image | None:
    """
    The mask of an edit, as pipelines take it: white where the source is drawn anew, black where it stays, and nothing in
    between.

    Args:
        value (`Any`): what a `mask_image` holds, as [`load_image`] takes it, of any mode; `None` for none.
        source (`PIL.Image.Image` or `list` of them, *optional*): what is edited.

    Returns:
        `PIL.Image.Image`: RGB, in the size of its source; `None` where there is none, or not one source that it could be of.

    Raises:
        `ValueError`: when it cannot be read, or there are several.
    """
    sources = source if isinstance(source, list | tuple) else [] if source is None else [source]
    if value is None or len(sources) != 1:
        return None
    if isinstance(value, list | tuple):
        raise ValueError(f"there are {len(value)} masks where one should be; give a row one `{MASK_COLUMN}`.")
    grey = load_image(value).convert("L")
    if grey.size != sources[0].size:
        grey = grey.resize(sources[0].size, Image.Resampling.LANCZOS)
    return grey.point(lambda level: 255 * (level >= 128)).convert("RGB")


def check_image(value: Any) -> None:
    """
    Find what is wrong with a picture from its header alone. URLs are not fetched.

    Raises:
        `ValueError`: as [`load_image`].
    """
    for item in _listed(value):
        path = item.get("path") if isinstance(item, dict) and item.get("bytes") is None else item
        if not is_url(path) or is_data_url(path):
            _open(item)


def is_url(value: Any) -> bool:
    """Whether a picture is stored as an address, and not as the path of a file."""
    return isinstance(value, str) and ("://" in value or is_data_url(value))


def is_data_url(value: Any) -> bool:
    """Whether the picture itself stands in its address."""
    return isinstance(value, str) and value[:5].lower() == "data:"


def anchored(dataset: Dataset | IterableDataset, folder: Path) -> Dataset | IterableDataset:
    """The dataset with the relative paths of its sources and masks as paths from `folder`."""
    features, columns = dataset.features or {}, dataset.column_names or (SOURCE_COLUMN, MASK_COLUMN)
    named = [n for n in (SOURCE_COLUMN, MASK_COLUMN) if n in columns and not _holds_pictures(features.get(n))]
    fn_kwargs = {"folder": str(folder.absolute()), "names": named}
    return dataset.map(_anchor, fn_kwargs=fn_kwargs) if named else dataset


def _holds_pictures(feature: Any) -> bool:
    """Whether a column holds the pictures themselves, and not their paths."""
    return isinstance(getattr(feature, "feature", feature), datasets.Image)


def undecoded(dataset: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """
    The dataset with its sources as they are stored, so that a broken one is a sentence and not the loader's end; a stream
    with all pictures as they are stored.
    """
    if isinstance(dataset, IterableDataset):
        stored = dataset.decode(False) if dataset.features else dataset
        return dataset if stored.features == dataset.features else stored
    feature = (dataset.features or {}).get(SOURCE_COLUMN)
    if isinstance(feature, datasets.Image):
        return dataset.cast_column(SOURCE_COLUMN, datasets.Image(decode=False))
    if isinstance(getattr(feature, "feature", None), datasets.Image):
        return dataset.cast_column(SOURCE_COLUMN, datasets.List(datasets.Image(decode=False)))
    return dataset


def read_rows(dataset: Dataset, places: Sequence[int]) -> list[dict[str, Any]]:
    """
    Rows of a dataset with everything in them as it is stored: to decode pictures is for whoever looks at them, with
    [`decode_sources`] and [`decode_columns`]. Rows of a dataset that has a format or a transform of its own are as that
    makes them.
    """
    if dataset.format["type"] is not None:
        return undecoded(dataset).__getitems__(list(places))
    stored = dataset.with_format("arrow", columns=dataset.format["columns"])
    return stored[list(places)].to_pylist()


def stored_first_row(dataset: Dataset | IterableDataset) -> dict[str, Any]:
    """The first row with its pictures as they are stored."""
    return read_rows(dataset, [0])[0] if isinstance(dataset, Dataset) else next(iter(undecoded(dataset)))


def decode_columns(rows: list[dict[str, Any]], dataset: Dataset | IterableDataset) -> list[dict[str, Any]]:
    """
    The rows as functions of users get them: what is in them beside `source_image` decoded as `datasets` does it.

    Args:
        rows (`list[dict]`): rows as [`read_rows`] or [`RepeatStream`] gives them.
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): where they are from, as the user gave it.
    """
    formatted = isinstance(dataset, Dataset) and dataset.format["type"] is not None
    if dataset.features is None or formatted:
        return rows
    beside = {name: feature for name, feature in dataset.features.items() if name != SOURCE_COLUMN}
    decode = datasets.Features(beside).decode_example
    return [{**row, **decode({name: row[name] for name in beside if name in row})} for row in rows]


def check_sources(
    dataset: Dataset | IterableDataset,
    name: str,
    check: Callable[[Any], Any] = check_image,
    at_most: int | None = None,
    column: str = SOURCE_COLUMN,
) -> None:
    """
    Find rows without a usable `source_image` before anything is loaded. Of a stream only the first row is looked at.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): rows as [`undecoded`] gives them.
        name (`str`): what the dataset is called in the error.
        check (`Callable`, *optional*): [`check_image`], which reads headers, or [`load_image`], which reads it all.
        at_most (`int`, *optional*): how many rows are looked at, evenly spaced from the first to the last; by default all.
        column (`str`, *optional*, defaults to `"source_image"`): that, or `"mask_image"`.

    Raises:
        `ValueError`: when there is no such column, or a row has no picture that can be used; the row is named.
    """
    streaming = isinstance(dataset, IterableDataset)
    columns = dataset.column_names or list(next(iter(dataset), {}))
    if column not in columns:
        does, name_it = (
            ("edits pictures", ", or name it with `source_column`")
            if column == SOURCE_COLUMN
            else ("draws a part of them anew, which is white there", "")
        )
        raise ValueError(
            f"{name} has no `{column}` column, only {', '.join(map(repr, columns))}, and this pipeline {does}; rename the "
            f"column that holds them{name_it}."
        )
    if streaming:
        places, rows = [0], dataset.take(1)
    else:
        count = len(dataset)
        few = count if at_most is None else min(count, at_most)
        places = [i * (count - 1) // max(1, few - 1) for i in range(few)]
        rows = dataset.select_columns(column).select(places)
    for i, row in zip(places, rows, strict=False):
        try:
            check(row[column])
        except ValueError as error:
            raise ValueError(f"Row {i} of {name} has a `{column}` that cannot be used: {error}") from error


def decode_sources(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    The rows with their sources as pictures; rows without one as they are, since not every pipeline needs it.

    Raises:
        `ValueError`: when a source cannot be used; the row's prompt is named.
    """
    if SOURCE_COLUMN not in rows[0]:
        return rows
    decoded = []
    for row in rows:
        try:
            source = row[SOURCE_COLUMN]
            decoded.append({**row, SOURCE_COLUMN: None if source is None else load_image(source)})
        except ValueError as error:
            raise ValueError(
                f"The row with the prompt {row['prompt'][:_SHOWN]!r} has a `{SOURCE_COLUMN}` that cannot be used: {error}"
            ) from error
    return decoded


def sources_digest(rows: Iterable[dict[str, Any]]) -> str:
    """A digest of the pixels of all sources and masks, whatever they are kept as; one row is decoded at a time."""
    digest = hashlib.sha256()
    for row in rows:
        source, mask = decode_sources([row])[0].get(SOURCE_COLUMN), row.get(MASK_COLUMN)
        masks = [] if mask is None else [load_image(mask)]
        for image in [*(source if isinstance(source, list) else [] if source is None else [source]), *masks]:
            digest.update(image_digest(image).encode())
        digest.update(b";")
    return digest.hexdigest()[:16]


def _anchor(row: dict[str, Any], folder: str, names: list[str]) -> dict[str, Any]:
    def from_folder(value: Any) -> Any:
        if isinstance(value, list):
            return [from_folder(item) for item in value]
        return os.path.join(folder, value) if isinstance(value, str) and not is_url(value) else value

    return row | {name: from_folder(row[name]) for name in names if name in row}


def _listed(value: Any) -> list:
    if not isinstance(value, list | tuple):
        return [value]
    if not value:
        raise ValueError("there is an empty list where pictures should be; give at least one.")
    return list(value)


def _load_one(value: Any) -> Image.Image:
    image = _open(value)
    try:
        return as_rgb(image)
    except Exception as error:  # the decoders raise what they like
        raise ValueError(f"{_name(value)} is broken ({error}); replace the file.") from error


def _open(value: Any) -> Image.Image:
    """The picture with its header read and its size checked."""
    with warnings.catch_warnings():
        # its limit is above ours
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            content = b"" if isinstance(value, Image.Image) else _content(value)
            image = value if isinstance(value, Image.Image) else Image.open(io.BytesIO(content))
        except UnidentifiedImageError as error:
            raise ValueError(f"{_name(value)} cannot be read as a picture: {_kind(content)}.") from error
        except Image.DecompressionBombError as error:
            raise ValueError(f"{_name(value)} is too large: {error}") from error
        except (OSError, SyntaxError, ImportError) as error:  # the last: a file system that is not installed
            raise ValueError(
                f"{_name(value)} cannot be read as a picture ({type(error).__name__}: "
                f"{getattr(error, 'strerror', None) or str(error)[:_SHOWN]})."
            ) from error
    check_white(image, _name(value))
    width, height = image.size
    if min(width, height) < _SMALLEST_SIDE or max(width, height) > _LARGEST_SIDE:
        raise ValueError(
            f"{_name(value)} has {width} × {height} pixels; each side has to have {_SMALLEST_SIDE} to {_LARGEST_SIDE}."
        )
    if max(width, height) > _LARGEST_RATIO * min(width, height):
        raise ValueError(
            f"{_name(value)} has {width} × {height} pixels; one side may be {_LARGEST_RATIO} times the other at most."
        )
    return image


def _content(value: Any) -> bytes:
    if isinstance(value, dict):  # the storage form of an `Image` column
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes):
        return value
    if is_data_url(value):
        return _of_data_url(value)
    if is_url(value):
        return _fetch(value)
    if isinstance(value, str | os.PathLike):
        return Path(value).read_bytes()
    if value is None:
        raise ValueError("there is none; give every row a picture.")
    raise ValueError(
        f"a {type(value).__name__} is no picture; give a PIL image, the bytes of a file, a path or a URL."
    )


def _of_data_url(url: str) -> bytes:
    head, _, data = url.partition(",")
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(data)
    try:
        return base64.b64decode("".join(unquote(data).split()), validate=True)
    except ValueError as error:
        raise ValueError(f"{_name(url)} cannot be read as a picture: it is no base64 ({error}).") from None


def _kind(content: bytes) -> str:
    """What a file is that is no picture, for people who do not look into it."""
    text = content[:1000].lstrip().lower()
    if not content:
        return "it is empty"
    if content.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS and not the file itself; run `git lfs pull`"
    if content.startswith((b"/annex/", b"../.git/annex/", b".git/annex/")):
        return "it is a pointer of git-annex and not the file itself; run `git annex get`"
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is a web page, as servers send in place of what they do not have"
    if b"<svg" in text:
        return "it is SVG, which has no pixels; export it as PNG"
    if content[4:8] == b"ftyp":
        name = content[8:12].decode("ascii", "replace")
        return f"it is HEIC, AVIF or a film (`{name}`), which Pillow does not read here; save it as PNG or JPEG"
    return f"it begins with {content[:16]!r}, which Pillow does not know how to read; save it as PNG or JPEG"


@retry(
    retry=retry_if_not_exception_type(FileNotFoundError),
    stop=stop_after_attempt(3),
    wait=wait_exponential_jitter(initial=0.5, max=5),
    reraise=True,
)
def _fetch(url: str) -> bytes:
    if not url.startswith(("http://", "https://")):
        with fsspec.open(url, "rb") as file:  # hf://, zip:// and what else fsspec knows
            return file.read()
    try:
        response = requests.get(url, timeout=30)
    except requests.RequestException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    if response.status_code in (401, 403, 404, 410):
        raise FileNotFoundError(f"the server answers with status {response.status_code}")
    if not response.ok:
        raise OSError(f"the server answers with status {response.status_code}")
    return response.content


def _name(value: Any) -> str:
    path = value.get("path") if isinstance(value, dict) else value
    if is_data_url(path):
        return f"the data URL {path[:40]!r}…"
    if isinstance(path, str | os.PathLike):
        return f"{os.fspath(path)[:_SHOWN]!r}"
    return "the picture"
