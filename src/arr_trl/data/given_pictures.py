"""Rows with pictures that people or judges ordered, made into what is trained on: decoded, all sides cut and resized alike."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from PIL import Image, ImageOps

from .images import MASK_COLUMN, SOURCE_COLUMN, load_image, load_mask
from .preference_rows import win_rates_of
from .sizes import SAME_RATIO


PICTURES = ("chosen", "rejected", "images")  # columns


def has_pairs(columns: Sequence[str]) -> bool:
    """Whether rows with these columns have pictures in an order."""
    return {"chosen", "rejected"} <= set(columns) or (
        "images" in columns and bool({"scores", "label_rank"} & set(columns))
    )


def check_pairs(dataset: Dataset | IterableDataset, name: str, rankings: bool, own_noise: bool) -> None:
    """
    Find before anything is loaded that rows are not what is trained on. Pictures of the first row alone are looked at.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): the rows.
        name (`str`): what it is called in the error.
        rankings (`bool`): whether rows of more than two pictures are trained on.
        own_noise (`bool`): whether each picture needs the noise that it was drawn from.

    Raises:
        `ValueError`: with a sentence that says what to change.
    """
    columns = dataset.column_names or list(next(iter(dataset)))
    if not has_pairs(columns):
        raise ValueError(
            f"{name} has the columns {', '.join(map(repr, columns))}, and preferences are `chosen` and `rejected`, or "
            "`images` and `scores`; `arr_trl.data.preference_rows` makes them of the layouts that are published."
        )
    if "chosen" not in columns and not rankings:
        raise ValueError(f"{name} has rankings, `images` and `scores`; set `loss_type='rank'`, or give it pairs.")
    missing = [column for column in ("chosen_noise", "rejected_noise") if own_noise and column not in columns]
    if missing:
        raise ValueError(
            f"pair_noise='own' needs the noise that drew each picture, and {name} has no column {missing[0]!r}; `arr-trl "
            "pairs from-run` writes it for pairs of a run of this package. Set pair_noise='shared' for others."
        )


def decode_pairs(
    rows: Sequence[dict[str, Any]], numbers: Sequence[int], height: int, width: int
) -> list[dict[str, Any]]:
    """
    The rows with their pictures as RGB of one size: resized to cover it and cut at the edges, the same way on all sides; a
    source that has their aspect ratio is cut with them, and its mask.

    Args:
        rows (`Sequence[dict]`): rows with `chosen` and `rejected`, or `images` and `scores` or `label_rank`.
        numbers (`Sequence[int]`): what number each has in its data, for errors.
        height (`int`): height in pixels.
        width (`int`): width in pixels.

    Returns:
        `list[dict]`: rows with `pictures`, the better of a pair first, and `scores`, more is better, beside the others.

    Raises:
        `ValueError`: when a picture cannot be used; the row is named.
    """
    decoded = []
    for number, row in zip(numbers, rows, strict=True):
        try:
            decoded.append(_decoded(row, height, width))
        except (ValueError, TypeError) as error:
            raise ValueError(f"Row {number}, with the prompt {str(row.get('prompt'))[:80]!r}: {error}") from error
    return decoded


def _decoded(row: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    if row.get("chosen") is not None:
        given, scores = [row["chosen"], row["rejected"]], [1.0, 0.0]
    else:
        given = row["images"]
        scores = row["scores"] if row.get("scores") is not None else win_rates_of(row["label_rank"])
        if len(given) != len(scores) or len(given) < 2:
            raise ValueError(f"it has {len(given)} pictures and {len(scores)} scores.")
    pictures = [load_image(picture) for picture in given]
    ratio = pictures[0].width / pictures[0].height
    made = {name: value for name, value in row.items() if name not in PICTURES}
    made |= {
        "pictures": [ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS) for picture in pictures],
        "scores": [float(score) for score in scores],
        "sizes": [picture.size for picture in pictures],
    }
    source = row.get(SOURCE_COLUMN)
    if source is not None:
        loaded = load_image(source)
        cut = [_cut(one, ratio, width / height) for one in (loaded if isinstance(loaded, list) else [loaded])]
        made[SOURCE_COLUMN] = cut if isinstance(loaded, list) else cut[0]
        mask = load_mask(row.get(MASK_COLUMN), loaded)
        if mask is not None:
            made[MASK_COLUMN] = _cut(mask, ratio, width / height)
    return made


def _cut(source: Image.Image, of_pictures: float, wanted: float) -> Image.Image:
    """A source as the pictures are cut, in its own resolution; as it is where it shows something else."""
    ratio = source.width / source.height
    if abs(ratio / of_pictures - 1) > SAME_RATIO or abs(ratio / wanted - 1) < 1e-6:
        return source
    size = (
        (round(source.height * wanted), source.height)
        if ratio > wanted
        else (source.width, round(source.width / wanted))
    )
    return ImageOps.fit(source, (max(size[0], 1), max(size[1], 1)), Image.Resampling.LANCZOS)
