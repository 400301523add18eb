"""Labelled pairs in a file: rows as they are stored, where a broken one is one row and not the end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import load_dataset
from pyarrow import ArrowInvalid

from ..text_files import lines_of, read_json, read_text
from .hub import check_dataset_cache
from .images import undecoded


PAIR_FILES = (".jsonl", ".json", ".parquet")


def rows_of_file(path: Path) -> Iterator[dict[str, Any] | str | ValueError]:
    """
    The rows; text in place of a line that is no JSON, and an error for one that is more than JSON can say.

    Args:
        path (`Path`): a file that ends in one of [`PAIR_FILES`].

    Raises:
        `ValueError`: when it is empty, or cannot be read as what its name says.
    """
    if path.suffix == ".parquet":
        check_dataset_cache()
        try:
            rows = load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        except (ArrowInvalid, StopIteration) as error:
            raise ValueError(f"{path} cannot be read as parquet ({error}); repair the file.") from error
        return iter(undecoded(rows))
    # not through `datasets`: rows of several layouts may stand in one file, and a broken line is one bad row
    text = read_text(path)
    if not text.strip():
        raise ValueError(f"{path} is empty; it needs rows with a prompt, images and a label.")
    if path.suffix == ".json":
        try:
            rows = read_json(text)
        except ValueError as error:
            if "\n{" not in text.strip() or not isinstance(error, json.JSONDecodeError):
                raise ValueError(f"{path} is not valid JSON ({error}); repair the file.") from None
        else:
            rows = [rows] if isinstance(rows, dict) and "data" not in rows else rows
            rows = rows["data"] if isinstance(rows, dict) else rows
            if not isinstance(rows, list) or not rows:
                raise ValueError(f"{path} holds no rows; it has to be a list of JSON objects.")
            return iter(rows)
    return (_json_row(line) for line in lines_of(text) if line.strip())


def _json_row(line: str) -> dict[str, Any] | str | ValueError:
    try:
        return read_json(line)
    except json.JSONDecodeError:
        return line
    except ValueError as error:
        return ValueError(f"{error}.")
