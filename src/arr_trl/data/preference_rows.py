"""
Preference data as a trainer takes it, rows with `prompt`, `chosen` and `rejected`, made of every layout that
[`~arr_trl.data.preferences.load_preferences`] reads. What is level or cannot be used is left out, counted and told.
"""

import logging
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, IterableDataset, List, Value, load_dataset
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HTTPError

from ..version import __version__
from .images import MASK_COLUMN, SOURCE_COLUMN, is_url, undecoded
from .preferences import (
    benchmark_of,
    labelled_pair,
    labelled_rows,
    one_scored,
    pairs_of_row,
    ranking_of_row,
    read_preferences,
    stored_mask,
    stored_source,
)


logger = logging.getLogger(__name__)

_LEVEL = "level"  # in place of a row that nobody preferred one side of
_TOLD = 5  # rows that cannot be used, in words
_PEEKED = 1000  # rows in which one has to be of use
_FEATURES = {
    "prompt": Value("string"),
    MASK_COLUMN: Image(),
    "chosen": Image(),
    "rejected": Image(),
    "images": List(Image()),
    "scores": List(Value("float64")),
    "chosen_noise": List(Value("int64")),
    "rejected_noise": List(Value("int64")),
    "judge": Value("string"),
    "rubric": Value("string"),
    "rationale": Value("string"),
    "row": Value("int64"),
}


def preference_rows(
    name: str,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    *,
    streaming: bool = False,
    rankings: bool = False,
) -> Dataset | IterableDataset:
    """
    Rows for [`DiffusionDPOTrainer`].

    Args:
        name (`str`): as [`~arr_trl.data.preferences.load_preferences`] takes it: a dataset on the Hub, a file, a folder or
            a benchmark with pairs.
        config (`str`, *optional*): configuration name of the dataset.
        split (`str`, *optional*, defaults to `"train"`): split; a file has only this one.
        revision (`str`, *optional*): branch, tag or commit of a dataset on the Hub.
        streaming (`bool`, *optional*, defaults to `False`):
            Read rows as they are needed. Otherwise all of them are looked at once, and where the pictures are is kept in
            the cache of `datasets`, with those that stand in the rows themselves.
        rankings (`bool`, *optional*, defaults to `False`):
            Keep all pictures of a row together, as `loss_type="rank"` needs it, and not every pair of them by itself.

    Returns:
        [`~datasets.Dataset`] or [`~datasets.IterableDataset`]: rows with `prompt`, `chosen`, `rejected` and `row`, its number
            in the data; with `rankings` `images` and `scores`, the share of the others that each beats; and where the
            data has them `source_image`, `mask_image`, `chosen_noise`, `rejected_noise`, `judge`, `rubric` and `rationale`.

    Raises:
        `FileNotFoundError`: when there is no such file.
        `ValueError`: when none of the first thousand rows can be used, or a stream would have to pair rows of one
            picture each.
    """
    rows, folder = labelled_rows(name, config, split, revision)
    first = _first_usable(rows, folder, rankings, streaming, name)
    names = {name: feature for name, feature in _FEATURES.items() if name in first}
    if SOURCE_COLUMN in first:
        names[SOURCE_COLUMN] = List(Image()) if isinstance(first[SOURCE_COLUMN], list) else Image()
    if streaming:
        make = _PairsOfRow(name, folder, rankings, list(names), benchmark_of(name) is not None or Path(name).is_file())
        return _stream(name, config, split, revision, make).map(
            make, with_indices=True, batched=True, batch_size=1, remove_columns=make.read, features=Features(names)
        )
    return _whole(name, config, split, revision, rankings, names)


def _whole(
    name: str, config: str | None, split: str, revision: str | None, rankings: bool, names: dict[str, Any]
) -> Dataset:
    kwargs = {"name": name, "config": config, "split_name": split, "revision": revision, "rankings": rankings}
    made = Dataset.from_generator(
        _all_rows,
        features=Features(names | {"problem": Value("string")}),
        # read again where it has changed; a list would be taken for shards
        gen_kwargs=kwargs | {"names": tuple(names), "state": f"{__version__} {_state(name, revision)}"},
    )
    problems = list(made["problem"])
    usable = [i for i, problem in enumerate(problems) if problem is None]
    broken = [problem for problem in problems if problem not in (None, _LEVEL)]
    if not usable:
        raise ValueError(f"{name} has no pair that can be used. {broken[0] if broken else 'All of them are level.'}")
    _tell(name, problems.count(_LEVEL), len(broken), broken[:_TOLD])
    return made.select(usable).remove_columns("problem")


def _all_rows(
    name: str,
    config: str | None,
    split_name: str,
    revision: str | None,
    rankings: bool,
    names: tuple[str, ...],
    state: str,
) -> Iterator[dict[str, Any]]:
    rows, folder = labelled_rows(name, config, split_name, revision)
    for row in _made(rows, folder, rankings):
        yield {name: row.get(name) for name in (*names, "problem")}


def _made(rows: Any, folder: Path, rankings: bool) -> Iterator[dict[str, Any]]:
    """A row for every pair or ranking, with the `problem` of those that cannot be used."""
    if rankings:
        for number, row in enumerate(rows):
            yield from _ranking(number, row, folder)
        return
    for made in read_preferences(rows, folder, ties=True, make=_stored_pair):
        yield {"problem": made} if isinstance(made, str) else made


def _stored_pair(
    number: int, row: dict[str, Any], images: list, ranks: list, folder: Path, **facts: Any
) -> dict[str, Any]:
    """A pair with its images as they are stored, once it is known that they can be read."""
    if ranks[0] == ranks[1]:
        return {"problem": _LEVEL}
    pair = labelled_pair(number, row, images, ranks, folder)
    chosen, rejected = (_stored(images[i], folder) for i in (pair.winner, 1 - pair.winner))
    noise = {name: row[name] for name in ("chosen_noise", "rejected_noise") if row.get(name) is not None}
    return {"prompt": pair.prompt, "chosen": chosen, "rejected": rejected, **noise, **_beside(number, row, folder)}


def _ranking(number: int, row: Any, folder: Path) -> Iterator[dict[str, Any]]:
    try:
        images, ranks = ranking_of_row(row)
        if len(set(ranks)) == 1:
            yield {"problem": _LEVEL}
            return
        # decodes what it compares, and so all of them
        prompt = labelled_pair(number, row, images[:2], ranks[:2], folder).prompt
        for k in range(2, len(images)):
            labelled_pair(number, row, [images[0], images[k]], [ranks[0], ranks[k]], folder)
        stored = [_stored(image, folder) for image in images]
        yield {"prompt": prompt, "images": stored, "scores": win_rates_of(ranks), **_beside(number, row, folder)}
    except (ValueError, TypeError, OSError) as error:
        yield {"problem": f"Row {number}: {error}"}


def win_rates_of(ranks: list[float]) -> list[float]:
    """Of each rank, lower is better, the share of the others that it beats; one that is level counts one half."""
    others = len(ranks) - 1
    return [sum((other > one) + 0.5 * (other == one) for other in ranks) / others - 0.5 / others for one in ranks]


def _beside(number: int, row: dict[str, Any], folder: Path) -> dict[str, Any]:
    source = stored_source(row)
    stored = (
        [_stored(one, folder) for one in source] if isinstance(source, list) else source and _stored(source, folder)
    )
    named = {name: row[name] for name in ("judge", "rubric", "rationale") if isinstance(row.get(name), str)}
    mask = stored_mask(row)
    edited = ({} if source is None else {SOURCE_COLUMN: stored}) | (
        {} if mask is None else {MASK_COLUMN: _stored(mask, folder)}
    )
    return edited | named | {"row": number}


def _stored(image: Any, folder: Path) -> dict[str, Any]:
    """An image as an `Image` column stores it, with a path that does not depend on where one stands."""
    if isinstance(image, bytes):
        return {"bytes": image, "path": None}
    if isinstance(image, dict) and image.get("bytes") is not None:
        return {"bytes": image["bytes"], "path": None}
    path = image["path"] if isinstance(image, dict) else image
    return {"bytes": None, "path": path if is_url(path) else os.path.abspath(folder / path)}


def _first_usable(rows: Any, folder: Path, rankings: bool, streaming: bool, name: str) -> dict[str, Any]:
    rows, problem = iter(rows), "There is no row."
    for row in _made(islice(_no_single(rows, folder, name) if streaming else rows, _PEEKED), folder, rankings):
        if row.get("problem") is None:
            return row
        problem = row["problem"]
    raise ValueError(
        f"{name} has no pair that can be used among its first {_PEEKED} rows. "
        + ("They are level." if problem == _LEVEL else problem)
    )


def _no_single(rows: Iterator[Any], folder: Path, name: str) -> Iterator[Any]:
    for number, row in enumerate(rows):
        if number == 0 and isinstance(row, dict) and one_scored(number, row, folder) is not None:
            raise ValueError(
                f"{name} has one picture a row, and pairs are made of several rows: they cannot be streamed. Leave "
                "`dataset_streaming` out."
            )
        yield row


class _PairsOfRow:
    """
    What a stream is mapped by: from a row as it is stored to the pairs that it holds, so that a run that resumes passes
    over rows without looking at their pictures.
    """

    def __init__(self, name: str, folder: Path, rankings: bool, names: list[str], wrapped: bool):
        self.name, self.folder, self.rankings, self.names = name, folder, rankings, names
        self.wrapped = wrapped  # rows of files may be anything, and stand in a column of their own
        self.read: list[str] | None = ["stored"] if wrapped else None
        self.level, self.broken = 0, 0

    def __call__(self, batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        row = batch["stored"][0] if self.wrapped else {name: values[0] for name, values in batch.items()}
        made = []
        for pair in self._made(indices[0], row):
            if pair.get("problem") is None:
                made.append(pair)
            else:
                self._count(pair["problem"])
        return {name: [pair.get(name) for pair in made] for name in self.names}

    def _made(self, number: int, row: Any) -> Iterator[dict[str, Any]]:
        if self.rankings:
            yield from _ranking(number, row, self.folder)
            return
        try:
            for made in pairs_of_row(number, row, self.folder, True, _stored_pair):
                yield {"problem": made} if isinstance(made, str) else made
        except (ValueError, TypeError, OSError) as error:
            yield {"problem": f"Row {number}: {error}"}

    def _count(self, problem: str) -> None:
        self.level += problem == _LEVEL
        self.broken += problem != _LEVEL
        if problem != _LEVEL and self.broken <= _TOLD:
            logger.warning("%s: %s It is left out.", self.name, problem)
        count = self.level + self.broken
        if count >= 100 and count & (count - 1) == 0:  # at 128, 256, ...
            _tell(self.name, self.level, self.broken, [])


def _stream(name: str, config: str | None, split: str, revision: str | None, make: _PairsOfRow) -> IterableDataset:
    if make.wrapped:
        kwargs = {"name": name, "config": config, "split_name": split, "revision": revision}
        return IterableDataset.from_generator(_wrapped, gen_kwargs=kwargs)
    rows = undecoded(load_dataset(name, config, split=split, revision=revision, streaming=True))
    make.read = rows.column_names or list(next(iter(rows)))
    return rows


def _wrapped(name: str, config: str | None, split_name: str, revision: str | None) -> Iterator[dict[str, Any]]:
    rows, _ = labelled_rows(name, config, split_name, revision)
    yield from ({"stored": row} for row in rows)


def _tell(name: str, level: int, broken: int, sentences: list[str]) -> None:
    if level or broken:
        logger.warning(
            "%s: %d level pairs and %d rows that cannot be used are left out. %s",
            name,
            level,
            broken,
            " ".join(sentences),
        )


def _state(name: str, revision: str | None) -> str:
    """Another one where a dataset has changed, as far as it can be seen without reading it."""
    path = Path(name.partition(":")[2] or name)
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    if files:
        return repr([(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files])
    if constants.is_offline_mode() or benchmark_of(name) is not None:
        return ""
    try:
        return str(HfApi().dataset_info(name, revision=revision).sha)
    except (HTTPError, OSError):  # what is in the cache is read without asking
        return ""
