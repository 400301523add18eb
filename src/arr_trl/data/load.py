"""Prompts from the Hub or from local files."""

import os
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path

from datasets import Dataset, IterableDataset, concatenate_datasets, interleave_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError
from pyarrow import ArrowInvalid

from ..quiet import without_bars_of_datasets
from .hub import check_dataset_cache, check_source
from .images import SOURCE_COLUMN, anchored
from .local_files import TEXT_FILES, check_files, plain_text
from .prompt_sets import find_prompt_set, load_prompt_set


# How local files are read, by the end of their name; a text file holds one prompt a line.
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}


def load_prompts(
    name: str | Sequence[str],
    config: str | None = None,
    split: str = "train",
    streaming: bool = False,
    prompt_column: str = "prompt",
    source_column: str | None = None,
    data_files: str | Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    seed: int = 0,
) -> Dataset | IterableDataset:
    """
    Rows with a `prompt` column, and a `source_image` column where there are pictures to edit. The other columns stay.

    Args:
        name (`str` or `Sequence[str]`):
            Dataset on the Hub; local .jsonl, .json, .csv, .parquet or .txt file; folder of such files, or of pictures
            with a `metadata.jsonl` or `metadata.csv`; or a benchmark of [`PROMPT_SETS`], such as `"geneval"`, of which
            `data_files` may name a local copy. Several names make one dataset.
        config (`str`, *optional*):
            Configuration name of the dataset.
        split (`str`, *optional*, defaults to `"train"`):
            Split to load; slices such as `"train[:100]"` work when not streaming. A local file has one split,
            `"train"`.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read rows as they are needed.
        prompt_column (`str`, *optional*, defaults to `"prompt"`):
            Column that holds the prompts; it is renamed. A dataset that has only a `text` column needs no name for it.
        source_column (`str`, *optional*):
            Column that holds the pictures to edit, of any kind that [`load_image`] takes; it is renamed. Paths in a
            local file are relative to the file.
        data_files (`str` or `Sequence[str]`, *optional*):
            Files of the dataset to read, as paths, patterns or URLs; by default those that its card or layout names.
        weights (`Sequence[float]`, *optional*):
            How often each of several datasets is drawn from, in any unit. A dataset that ends starts again until all
            have been read. Without weights every row comes once, one dataset after the other.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draw between weighted datasets.

    Raises:
        `FileNotFoundError`: when a local file or a dataset on the Hub does not exist.
        `ConnectionError`: when the Hub is out of reach.
        `OSError`: when the cache of datasets cannot be written to.
        `ValueError`: when a local file has an ending that cannot be read, a column is not there, or the weights do not
            fit the names.
    """
    names = [name] if isinstance(name, str) else list(name)
    if weights is not None and (len(weights) != len(names) or not all(weight > 0 for weight in weights)):
        raise ValueError(
            f"dataset_weights={list(weights)} for {len(names)} datasets ({', '.join(names)}); give one weight greater "
            "than 0 for each."
        )
    parts = [
        _rename(_load(part, config, split, streaming, data_files), part, prompt_column, source_column)
        for part in names
    ]
    if len(parts) == 1:
        return parts[0]
    if weights is None:
        return concatenate_datasets(parts)
    shares = [weight / sum(weights) for weight in weights]
    return interleave_datasets(parts, probabilities=shares, seed=seed, stopping_strategy="all_exhausted")


def _load(name, config, split, streaming, data_files) -> Dataset | IterableDataset:
    path = Path(name)
    if find_prompt_set(name) is not None and not path.exists():
        copy = data_files if data_files is None or isinstance(data_files, str) else data_files[0]
        prompts = load_prompt_set(name, copy)
        return prompts.to_iterable_dataset() if streaming else prompts
    # a repository may be called `user/prompts.json`, so a name that could be one is a file only where there is one
    if path.is_file() or path.suffix in _BUILDERS:
        if not path.is_file():
            raise FileNotFoundError(f"There is no prompt file at {path}; check `dataset_name`.")
        if path.suffix not in _BUILDERS:
            raise ValueError(f"{path} does not end in {', '.join(_BUILDERS)}, the formats that prompts are read from.")
        if path.stat().st_size == 0:
            raise ValueError(f"{path} is empty; it needs at least one row with a `prompt`.")
        check_dataset_cache()
        file = str(plain_text(path)) if path.suffix in TEXT_FILES else name
        try:
            with without_bars_of_datasets():
                return load_dataset(_BUILDERS[path.suffix], data_files=file, split=split, streaming=streaming)
        except (DatasetGenerationError, ArrowInvalid, StopIteration) as error:
            cause = error.__cause__ or error
            raise ValueError(
                f"{path} cannot be read as {path.suffix[1:]} ({type(cause).__name__}: {cause}); repair the file."
            ) from error
    if data_files is None:  # with them the name may be that of a format
        check_source(name, "dataset_name", "dataset")
    check_dataset_cache()
    check_files(_local_files(name, data_files))
    return load_dataset(name, config, data_files=data_files, split=split, streaming=streaming)


def _local_files(name: str, data_files: str | Sequence[str] | None) -> Iterator[Path]:
    """The files on this machine that `datasets` may read for a folder, or for a format and the files of it."""
    folder = Path(name)
    if data_files is None:
        return folder.rglob("*") if folder.is_dir() else iter(())
    if not folder.is_dir() and name not in _BUILDERS.values():
        return iter(())
    patterns = [data_files] if isinstance(data_files, str) else data_files
    start = folder if folder.is_dir() else Path()
    return (Path(file) for pattern in patterns for file in glob(os.path.join(start, pattern), recursive=True))


def _rename(
    dataset: Dataset | IterableDataset, name: str, prompt_column: str, source_column: str | None
) -> Dataset | IterableDataset:
    # a stream whose columns are not declared shows them in its first row
    try:
        columns = dataset.column_names or list(next(iter(dataset), {}))
    except (ArrowInvalid, ValueError, OverflowError) as error:  # of a stream, which is read here for the first time
        raise ValueError(f"{name} cannot be read ({type(error).__name__}: {error}); repair the file.") from error
    if not columns:
        raise ValueError(f"{name} is empty; it needs at least one row with a `prompt`.")
    if prompt_column == "prompt" and columns == ["text"]:
        prompt_column = "text"
    wanted = {prompt_column: "prompt"} | ({source_column: SOURCE_COLUMN} if source_column else {})
    for (old, new), setting in zip(wanted.items(), ("prompt_column", "source_column"), strict=False):
        if old not in columns:
            raise ValueError(f"{name} has no column {old!r}, only {', '.join(map(repr, columns))}; set `{setting}`.")
        if old != new:
            if new in columns:
                dataset = dataset.remove_columns(new)
            dataset = dataset.rename_column(old, new)
    if Path(name).is_file() and (source_column or SOURCE_COLUMN in columns):
        dataset = anchored(dataset, Path(name).parent)
    return dataset
