"""The size that a row says its picture is to have: columns `height` and `width`, both or neither."""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, IterableDataset

from .images import undecoded


Size = tuple[int, int]  # height and width in pixels

SAME_RATIO = 0.02  # by which aspect ratios may differ that count as the same
SIZE_COLUMNS = ("height", "width")


def size_of_row(row: Mapping[str, Any]) -> Size | None:
    """
    Height and width that a row asks for, `None` where it leaves them to the configuration.

    Raises:
        `ValueError`: when it has one of them alone, or something else than whole numbers.
    """
    height, width = (row.get(name) for name in SIZE_COLUMNS)
    if height is None and width is None:
        return None
    if any(type(side) is not int or side < 1 for side in (height, width)):
        raise ValueError(
            f"it has height={height!r} and width={width!r}. They are the size its picture is drawn at: give whole numbers of "
            "pixels for both, or for neither; rename the columns where they mean something else."
        )
    return height, width


def sizes_of_rows(dataset: Dataset | IterableDataset | None, name: str) -> dict[str, int]:
    """
    The sizes that rows ask for, each once, by words that say which row was the first to. Of a stream only the first row is
    looked at.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`], *optional*): the rows.
        name (`str`): what the dataset is called in errors.

    Raises:
        `ValueError`: when one has a size that no picture can have; the row is named.
    """
    first = next(iter(undecoded(dataset)), {}) if isinstance(dataset, IterableDataset) else {}
    there = [column for column in SIZE_COLUMNS if dataset is not None and column in (dataset.column_names or first)]
    if not there:
        return {}
    if isinstance(dataset, IterableDataset):
        rows = [first]
    else:
        rows = dataset.select_columns(there).with_format("arrow")[:].to_pylist()
    asked: dict[Any, int] = {}
    for i, row in enumerate(rows):
        asked.setdefault(tuple(row.get(column) for column in SIZE_COLUMNS), i)
    sizes = {}
    for values, i in asked.items():
        try:
            size = size_of_row(dict(zip(SIZE_COLUMNS, values, strict=True)))
        except ValueError as error:
            raise ValueError(f"Row {i} of {name} cannot be used: {error}") from error
        sizes |= {f"Row {i} of {name}: {c}": side for c, side in zip(SIZE_COLUMNS, size or (), strict=False)}
    return sizes


def places_by_size(sizes: Sequence[Size]) -> dict[Size, list[int]]:
    """The places of each size, in the order in which sizes come first."""
    places: dict[Size, list[int]] = {}
    for place, size in enumerate(sizes):
        places.setdefault(size, []).append(place)
    return places


def batches_of_one_size(sizes: Sequence[Size], at_most: int) -> list[list[int]]:
    """Places in batches of one size each, `at_most` in one."""
    return [
        places[start : start + at_most]
        for places in places_by_size(sizes).values()
        for start in range(0, len(places), at_most)
    ]
