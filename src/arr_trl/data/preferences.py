"""Labelled pairs of images, in the layouts that preference data are published in."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from datasets import load_dataset
from PIL import Image

from .hub import check_dataset_cache
from .images import is_url, load_image, undecoded
from .local_files import check_files
from .pair_files import PAIR_FILES, rows_of_file
from .prompt_sets import PromptSet, find_prompt_set, read_prompt_set


_PROMPT = ("prompt", "query", "instruction", "caption")
_SOURCE = (
    "source_image", "base_image", "original_image", "input_image", "reference_image",
    "path_src", "image_src", "INPUT_IMG",
)  # fmt: skip
_MASK = ("mask_image", "MASK_IMG")
_IMAGES = (
    "response", "responses", "images", "image_paths", "generated_images",
    "edited_images", "target_images", "output_images", "result_images",
)  # fmt: skip


_Label = tuple[str, list, list[float]]  # its column, the images as they are stored, and ranks, lower is better


@dataclass(frozen=True, eq=False)
class Preference:
    """
    Two images of one prompt and which of them people preferred.

    Args:
        prompt (`str`): the caption, or the instruction of an edit.
        images (`tuple[PIL.Image.Image, PIL.Image.Image]`): in the order of the data.
        winner (`int`, *optional*): 0 or 1; `None` for a pair that people found level, which is read on request only.
        source_image (`PIL.Image.Image` or `list` of them, *optional*): what was edited, several where an instruction
            refers to several.
        category (`str`, *optional*): what the row is filed under.
        row (`int`, *optional*): number of the row it was read from.
        rationale (`str`, *optional*): why people preferred the winner, where the row says it.
        group (`str`, *optional*): what its comparison belongs to, where several count together or make a ranking.
        group_size (`int`, *optional*): how many comparisons the group has.
        items (`tuple[int, int]`, *optional*): numbers of the two images in a ranking.
        mask_image (`PIL.Image.Image`, *optional*): white where the source was to be drawn anew, black where it stays.
    """

    prompt: str
    images: tuple[Image.Image, Image.Image]
    winner: int | None
    source_image: Image.Image | list[Image.Image] | None = None
    category: str | None = None
    row: int | None = None
    rationale: str | None = None
    group: str | None = None
    group_size: int | None = None
    items: tuple[int, int] | None = None
    mask_image: Image.Image | None = None


def load_preferences(
    name: str,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    *,
    ties: bool = False,
) -> Iterator[Preference | str]:
    """
    Pairs of a dataset, read as they are needed. A row that cannot be used comes as a sentence that says why, so that
    one missing file does not stop the other thousands.

    Args:
        name (`str`):
            dataset on the Hub, which is streamed; a .jsonl, .json or .parquet file; or a benchmark of
            [`~arr_trl.data.PROMPT_SETS`] that has pairs, such as `"mmrb2-t2i"`, or with a local copy
            `"hpdv3:folder/test.json"`.
        config (`str`, *optional*): configuration name of the dataset.
        split (`str`, *optional*, defaults to `"train"`): split; a file has only this one.
        revision (`str`, *optional*): branch, tag or commit of a dataset on the Hub.
        ties (`bool`, *optional*, defaults to `False`): whether pairs that people found level come too, without a winner.

    Raises:
        `FileNotFoundError`: when there is no such file.
        `ValueError`: when the file is empty, has another ending or cannot be read as what its name says, or the benchmark
            has no pairs.
    """
    return read_preferences(*labelled_rows(name, config, split, revision), ties)


def labelled_rows(
    name: str, config: str | None = None, split: str = "train", revision: str | None = None
) -> tuple[Iterable[dict[str, Any] | str | ValueError], Path]:
    """Rows as they are stored, and the folder that paths in them are relative to; arguments as of [`load_preferences`]."""
    path = Path(name)
    if (prompt_set := benchmark_of(name)) is not None:
        if not prompt_set.pairs:
            raise ValueError(f"{prompt_set.name} has prompts, but no labelled pairs.")
        return read_prompt_set(prompt_set, name.partition(":")[2] or None), Path()
    if path.suffix in PAIR_FILES:
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}; check `dataset`.")
        return rows_of_file(path), path.parent
    if path.is_file():
        raise ValueError(
            f"{path} does not end in {', '.join(PAIR_FILES)}, the formats that pairs are read from; convert it."
        )
    check_files(path.rglob("*") if path.is_dir() else ())
    check_dataset_cache()
    rows = load_dataset(name, config, split=split, revision=revision, streaming=True)
    # decoded here, where a broken file is one row and not the end
    return undecoded(rows), Path()


def benchmark_of(name: str) -> PromptSet | None:
    """
    The benchmark that a dataset's name stands for; `None` for a file and for a dataset that is none.

    Args:
        name (`str`): as [`load_preferences`] takes it, such as `"hpdv3:folder/test.json"`.
    """
    return None if Path(name).exists() else find_prompt_set(name.partition(":")[0])


def read_preferences(
    rows: Iterable[dict[str, Any] | str | ValueError],
    folder: Path,
    ties: bool = False,
    make: Callable[..., Any] | None = None,
) -> Iterator[Preference | str]:
    """
    Pairs from rows in any of the known layouts; a sentence for a row that is in none of them.

    Args:
        rows (`Iterable[dict]`): rows with
            - a prompt, images (a list) and `label_rank`, 1 for the best, or `label_score`, more is better; every two of
              different rank make a pair;
            - a prompt, one image and `label_score`; images of the same prompt and different score make pairs;
            - `caption`, `jpg_0`, `jpg_1`, `label_0` (Pick-a-Pic); or
            - `prompt`, `path1`, `path2`, the first better (HPDv3), or level where `tie_case` is true (EditReward-Data); or
            - a prompt, `chosen` and `rejected`.

            Three and more images of a row are a ranking. Pairs of several rows with the same `label_group` count
            together; `label_group_size` says how many there are.
        folder (`Path`): what relative paths are relative to.
        ties (`bool`, *optional*, defaults to `False`): whether level pairs come too, without a winner.
        make (`Callable`, *optional*):
            What makes something else than a [`Preference`] of a pair: takes the number of the row, the row, its two images
            as they are stored, their ranks and the folder, and by name `group`, `group_size` and `items`.
    """
    make = make or labelled_pair
    scored: dict[str, list[_Scored]] = {}
    for number, row in enumerate(rows):
        try:
            row = _checked(row)
            if (one := one_scored(number, row, folder)) is not None:
                others, told = scored.setdefault(one.prompt_key, []), set()
                for other in others:
                    if other.score != one.score or ties:
                        other.paired = one.paired = True
                        scores = [-other.score, -one.score]
                        yield from _pair(number, row, [other.image, one.image], scores, folder, told, make)
                others.append(one)
            else:
                yield from pairs_of_row(number, row, folder, ties, make)
        except (ValueError, TypeError, OSError) as error:
            yield f"Row {number}: {error}"
    for one in (one for some in scored.values() for one in some if not one.paired):
        yield f"Row {one.row}: there is no other image of its prompt with another `label_score` to compare it with."


def pairs_of_row(
    number: int,
    row: dict[str, Any] | str | ValueError,
    folder: Path,
    ties: bool,
    make: Callable[..., Any],
) -> Iterator[Any]:
    """
    The pairs of a row that holds some, as [`read_preferences`] makes them of all.

    Raises:
        `ValueError`: when it holds none.
    """
    row, told = _checked(row), set()
    labels = _labels(row)
    _, images, ranks = labels[0]
    pairs = [(i, j) for i, j in combinations(range(len(images)), 2) if ties or ranks[i] != ranks[j]]
    group = _group(number, row, len(images), len(pairs))
    for i, j in pairs:
        facts = group | {"items": (i, j) if len(images) > 2 else None}
        ranked = [ranks[i], ranks[j]]
        yield from _pair(number, row, [images[i], images[j]], ranked, folder, told, make, labels, (i, j), **facts)


def ranking_of_row(row: dict[str, Any] | str | ValueError) -> tuple[list, list[float]]:
    """
    All images of a row as they are stored, and their ranks, lower is better.

    Raises:
        `ValueError`: when it holds no labelled images.
    """
    _, images, ranks = _labels(_checked(row))[0]
    return images, ranks


def _checked(row: dict[str, Any] | str | ValueError) -> dict[str, Any]:
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(f"it is not a JSON object: {str(row)[:80]!r}.")
    return row


@dataclass(eq=False)
class _Scored:
    """An image that has a score of its own, and whether another one was found to compare it with."""

    row: int
    prompt_key: str
    image: Any
    score: float
    paired: bool = False


def _pair(
    number: int,
    row: dict[str, Any],
    images: list,
    ranks: list,
    folder: Path,
    told: set[str],
    make: Callable[..., Any],
    labels: Sequence = (),
    places: Sequence[int] = (),
    **facts: Any,
) -> Iterator[Any]:
    """A pair of a row, or what is wrong with it, unless that is told already: it says nothing of the row's others."""
    try:
        _check_labels(images, labels, places)
        yield make(number, row, images, ranks, folder, **facts)
    except (ValueError, TypeError, OSError) as error:
        if str(error) not in told:
            yield f"Row {number}: {error}"
        told.add(str(error))


def _group(number: int, row: dict[str, Any], images: int, pairs: int) -> dict[str, Any]:
    """What the pairs of a row belong to: the row's own word, or the row where it is a ranking."""
    name = row.get("label_group")
    if name is None and images < 3:
        return {}
    size = row.get("label_group_size")
    return {
        "group": f"row {number}" if name is None else str(name),
        "group_size": pairs if size is None else int(size),
    }


def labelled_pair(
    number: int, row: dict[str, Any], images: list, ranks: list[float], folder: Path, **facts: Any
) -> Preference:
    """A pair of a row with its images decoded; `facts` are `group`, `group_size` and `items`."""
    prompt = _prompt(row)
    first, second = (_image(stored, folder) for stored in images)
    if first.mode == second.mode and first.size == second.size and first.tobytes() == second.tobytes():
        raise ValueError("its two images are identical, so that nothing in them can explain the label.")
    return Preference(
        prompt=prompt,
        images=(first, second),
        winner=None if ranks[0] == ranks[1] else int(ranks[0] > ranks[1]),
        source_image=_source(row, folder),
        mask_image=None if (mask := stored_mask(row)) is None else _image(mask, folder),
        category=None if row.get("category") is None else str(row["category"]),
        row=number,
        rationale=row.get("rationale"),
        **facts,
    )


def stored_source(row: dict[str, Any]) -> Any:
    """What a row has as the picture that was edited, or the list of them, as it is stored."""
    return _first(row, _SOURCE)


def stored_mask(row: dict[str, Any]) -> Any:
    """What a row has as the mask of an edit, as it is stored."""
    return _first(row, _MASK)


def _source(row: dict[str, Any], folder: Path) -> Image.Image | list[Image.Image] | None:
    stored = stored_source(row)
    if isinstance(stored, list):
        return [_image(one, folder) for one in stored] or None
    return None if stored is None else _image(stored, folder)


def _prompt(row: dict[str, Any]) -> str:
    prompt = _first(row, _PROMPT)
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"it has no prompt; name the column {', '.join(_PROMPT[:-1])} or {_PROMPT[-1]}.")
    return prompt


def one_scored(number: int, row: dict[str, Any], folder: Path) -> _Scored | None:
    """The one image of a pointwise row; `None` for a row that holds pairs."""
    image, score = _first(row, _IMAGES), row.get("label_score")
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    if isinstance(score, list) and len(score) == 1:
        score = score[0]
    if score is None or image is None or isinstance(image, list):
        return None
    _image(image, folder)  # a missing file is found with its own row
    source = _first(row, _SOURCE)
    key = hashlib.blake2b(repr((_prompt(row), source)).encode(), digest_size=16).hexdigest()
    return _Scored(number, key, image, _number(score, "label_score"))


def _labels(row: dict[str, Any]) -> list[_Label]:
    """Every label that a row has for its images; the first is the one that is used."""
    _prompt(row)
    labels: list[_Label] = []
    if row.get("jpg_0") is not None and row.get("label_0") is not None:
        pair = [row["jpg_0"], row.get("jpg_1")]
        labels.append(("label_0", pair, _pick_a_pic(row)))
        if (best := row.get("best_image_uid")) is not None and best in (
            uids := [row.get(f"image_{i}_uid") for i in (0, 1)]
        ):
            if len(set(labels[0][2])) == 1:  # a tie is no pair, so that nothing would hold it against this
                raise ValueError("`label_0` and `best_image_uid` disagree: one says level, the other names an image.")
            labels.append(("best_image_uid", pair, [1, 2] if best == uids[0] else [2, 1]))
    if row.get("path1") is not None and row.get("path2") is not None:
        labels.append(("path1", [row["path1"], row["path2"]], [1, 1] if _is_tie(row) else [1, 2]))
    if row.get("chosen") is not None and row.get("rejected") is not None:
        labels.append(("chosen", [row["chosen"], row["rejected"]], [1, 2]))
    images = _first(row, _IMAGES)
    for name, sign in (("label_rank", 1), ("label_score", -1)):
        values = row.get(name)
        if isinstance(images, list) and isinstance(values, list):
            if len(images) < 2 or len(images) != len(values):
                raise ValueError(f"it has {len(images)} images and {len(values)} {name.removeprefix('label_')}s.")
            labels.append((name, images, [sign * _number(value, name) for value in values]))
    if not labels:
        raise ValueError(f"it holds no labelled pair; it has {', '.join(row)}.")
    return labels


def _pick_a_pic(row: dict[str, Any]) -> list[float]:
    """The ranks of its two images; a pair that nobody has labelled has zeros, as if neither were better."""
    if row.get("has_label", True) in (False, 0):
        raise ValueError("nobody has labelled it: `has_label` is false.")
    first = _number(row["label_0"], "label_0")
    second = 1 - first if row.get("label_1") is None else _number(row["label_1"], "label_1")
    if abs(first + second - 1) > 1e-6 or min(first, second) < 0:
        raise ValueError(
            f"`label_0` {first:g} and `label_1` {second:g} are shares of one choice, and have to add up to 1."
        )
    return [-first, -second]


def _check_labels(images: list, labels: Sequence[_Label], places: Sequence[int]) -> None:
    """Hold what a row says twice of one pair against each other; `places` are those of its images in the first label."""
    orders: dict[str, float] = {}
    for name, labelled, ranks in labels:
        # of the same list by place, since an image may stand in it twice
        found = places if labelled is labels[0][1] else [k for image in images for k in _places(image, labelled)]
        if len(found) == 2:
            orders[name] = ranks[found[0]] - ranks[found[1]]
    if any(one * other < 0 for one, other in combinations(orders.values(), 2)):
        names = " and ".join(f"`{name}`" for name in orders)
        raise ValueError(f"{names} disagree about which of two images is better.")


def _places(image: Any, labelled: list) -> list[int]:
    return [k for k, other in enumerate(labelled) if other is image or other == image]


def _is_tie(row: dict[str, Any]) -> bool:
    said = row.get("tie_case")
    known = {"true": True, "1": True, "false": False, "0": False, "none": False, "": False}
    if str(said).strip().lower() not in known:
        raise ValueError(f"`tie_case` has to be true or false, not {said!r}.")
    return known[str(said).strip().lower()]


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"`{name}` has to hold numbers, not {value!r}.")
    return float(value)


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _image(stored: Any, folder: Path) -> Image.Image:
    if stored is None:
        raise ValueError("an image is missing.")
    if isinstance(stored, dict):  # the storage form of an `Image` column
        stored = stored["path"] if stored.get("bytes") is None else stored["bytes"]
    if isinstance(stored, list):
        raise ValueError("a list stands where one image should be.")
    if isinstance(stored, str) and not is_url(stored):
        stored = str(folder / stored)
        if not os.path.isfile(stored):  # `Path.is_file` raises for a name that is too long
            raise FileNotFoundError(f"there is no image {stored[:200]}.")
    return load_image(stored)
