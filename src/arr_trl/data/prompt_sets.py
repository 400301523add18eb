"""Benchmarks by name: prompts and labelled pairs in the files that their authors publish, as rows that the rest reads."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
from datasets import Dataset, Features, List, Value, load_dataset
from datasets import Image as ImageFeature
from pyarrow import ArrowInvalid

from .images import undecoded
from .local_files import TEXT_FILES, plain_text
from .sets.base import Official, PromptSet, Row
from .sets.editing import EDITING
from .sets.pairs import PAIRS
from .sets.text_to_image import TEXT_TO_IMAGE


__all__ = [
    "PROMPT_SETS",
    "Official",
    "PromptSet",
    "find_prompt_set",
    "load_prompt_set",
    "read_prompt_set",
]

PROMPT_SETS: tuple[PromptSet, ...] = (*TEXT_TO_IMAGE, *EDITING, *PAIRS)
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}


def find_prompt_set(name: str) -> PromptSet | None:
    """The benchmark of this name, `None` where there is none."""
    return next((prompt_set for prompt_set in PROMPT_SETS if prompt_set.name == name), None)


def load_prompt_set(name: str, path: str | Path | None = None) -> Dataset:
    """
    The prompts of a benchmark, in its order, each once.

    Args:
        name (`str`): one of [`PROMPT_SETS`], such as `"geneval"`.
        path (`str` or `Path`, *optional*):
            A local copy: the file, or the folder of those that are one file a category. By default the set is read from
            where its authors publish it.

    Returns:
        [`~datasets.Dataset`]: with `prompt`, `category`, `source_image` for editing, in lists where an instruction
        refers to several pictures, and the set's own columns, such as `vqa_list`.

    Raises:
        `ValueError`: when there is no benchmark of this name, or its columns are not those that were expected.
        `FileNotFoundError`: when it cannot be reached, or has to be downloaded first; the message says what and where.
    """
    prompt_set = _named(name)
    rows: dict[Any, Row] = {}
    for number, row in enumerate(read_prompt_set(prompt_set, path)):
        # the prompts of labelled pairs come once for each pair; sources of an edit are told apart by their row
        key = row["prompt"] if prompt_set.task == "text-to-image" else number
        rows.setdefault(key, row)
    columns = {"prompt": Value("string"), "category": Value("string"), **prompt_set.features}
    values = {name: [row.get(name) for row in rows.values()] for name in columns}
    if prompt_set.task == "image-editing":
        columns["source_image"] = ImageFeature()
        sources = [row["source_image"] for row in rows.values()]
        if any(isinstance(source, list) for source in sources):  # a column has one type
            columns["source_image"] = List(ImageFeature())
            sources = [source if isinstance(source, list) else [source] for source in sources]
        values["source_image"] = sources
    return Dataset.from_dict(values, features=Features(columns))


def read_prompt_set(prompt_set: PromptSet, path: str | Path | None = None) -> Iterator[Row]:
    """The rows of a benchmark as they are read; see [`load_prompt_set`]."""
    # after `hpdv3:` no shell puts the home folder in the place of a tilde
    path = None if path is None else Path(path).expanduser()
    folder = None if path is None else path.parent
    for row in _files(prompt_set, path):
        try:
            read = prompt_set.row(row)
        except (LookupError, TypeError, ValueError, AttributeError) as error:  # what is not as it was, or not there
            raise ValueError(
                f"A row of {prompt_set.name} has {', '.join(row)} and cannot be read ({error!r}); expected was "
                f"{prompt_set.schema}. Its authors may have changed it: use {prompt_set.where} in that form."
            ) from error
        if read is not None:
            yield read if folder is None else _beside(read, folder)


def _named(name: str) -> PromptSet:
    prompt_set = find_prompt_set(name)
    if prompt_set is None:
        raise ValueError(
            f"There is no prompt set {name!r}; there are {', '.join(known.name for known in PROMPT_SETS)}."
        )
    return prompt_set


def _files(prompt_set: PromptSet, path: Path | None) -> Iterator[Row]:
    if path is None and prompt_set.repo is None and prompt_set.url is None:
        raise FileNotFoundError(
            f"{prompt_set.name} has to be downloaded first: get {prompt_set.where}, and give its path."
        )
    if prompt_set.categories:
        for category in prompt_set.categories:
            pattern = prompt_set.url if path is None else f"{path}/{prompt_set.url.rpartition('/')[2]}"
            for row in _open(prompt_set, pattern.format(category=category), path is not None):
                yield {**row, "category": category}
        return
    yield from _open(prompt_set, str(path or prompt_set.url or prompt_set.repo), path is not None)


def _open(prompt_set: PromptSet, name: str, local: bool) -> Iterable[Row]:
    suffix = Path(name).suffix
    if local and not Path(name).exists():
        raise FileNotFoundError(f"There is no {name}; for {prompt_set.name} get {prompt_set.where}.")
    if prompt_set.read is not None:
        return prompt_set.read(Path(name))
    try:
        if suffix in _BUILDERS and not local:
            return _fetched(prompt_set, name)
        if suffix in _BUILDERS:
            name = str(plain_text(Path(name))) if suffix in TEXT_FILES else name
            options = {"delimiter": "\t"} if suffix == ".tsv" else {}
            rows = load_dataset(_BUILDERS[suffix], data_files=name, split="train", streaming=True, **options)
        else:
            rows = load_dataset(name, prompt_set.config, split=prompt_set.split, streaming=True)
    except (OSError, ValueError) as error:  # `datasets` has both for a repository or a file that cannot be reached
        raise FileNotFoundError(
            f"{prompt_set.name} cannot be read from {name} ({type(error).__name__}: {error}); get {prompt_set.where}, and "
            "give its path."
        ) from error
    return _read(undecoded(rows), name)  # pictures are decoded where they are used


def _read(rows: Iterable[Row], name: str) -> Iterator[Row]:
    try:
        yield from rows
    except (ArrowInvalid, OverflowError) as error:  # a stream is parsed as it is read
        raise ValueError(f"{name} cannot be read ({type(error).__name__}: {error}); repair the file.") from error


def _fetched(prompt_set: PromptSet, url: str) -> list[Row]:
    """The rows of a file behind a URL. `datasets` would need aiohttp to read it there, which it does not install."""
    response = requests.get(url, timeout=30)
    response.raise_for_status()
    with TemporaryDirectory() as folder:
        copy = Path(folder) / url.rpartition("/")[2]
        copy.write_bytes(response.content)
        return list(_open(prompt_set, str(copy), local=True))


def _beside(row: Row, folder: Path) -> Row:
    """Paths of pictures are relative to the file that names them."""

    def place(picture: Any) -> Any:
        if isinstance(picture, list):
            return [place(one) for one in picture]
        return str(folder / picture) if isinstance(picture, str) else picture

    return row | {name: place(row[name]) for name in ("source_image", "mask_image", "images") if name in row}
