"""Prompt files as people save them, made into what `datasets` reads: plain UTF-8, and tables whose rows fit their header."""

import codecs
import csv
import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets import config

from ..folders import replacing
from ..text_files import encoding_of, read_text


TEXT_FILES = (".jsonl", ".json", ".csv", ".tsv", ".txt")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_CHUNK = 1 << 20  # bytes: a file may be larger than memory


def plain_text(path: Path) -> Path:
    """
    A file of text, checked: itself, or a copy in the cache of `datasets` where a mark of its encoding stands at its
    beginning, which `datasets` would take for a part of the first row.

    Raises:
        `ValueError`: when it is not in UTF-8, UTF-16 or UTF-32, or a CSV or TSV file whose rows are not as long as its
            header; the file and the line are named.
    """
    digest, marked = hashlib.sha256(), False
    with path.open("rb") as file:
        beginning = file.read(4)
        marked = encoding_of(beginning) != "utf-8" or beginning.startswith(codecs.BOM_UTF8)
        file.seek(0)
        decoder = codecs.getincrementaldecoder(encoding_of(beginning))()
        try:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                if "\0" in decoder.decode(chunk):
                    read_text(path)  # which tells where
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            read_text(path)
    if path.suffix in _SEPARATORS:
        _check_table(path, _SEPARATORS[path.suffix])
    if not marked:
        return path
    copy = Path(config.HF_DATASETS_CACHE, "arr_trl-plain-text", digest.hexdigest()[:16], path.name)
    with replacing(copy) as written:
        written.write_bytes(read_text(path).encode())
    return copy


def check_files(paths: Iterable[Path]) -> None:
    """
    Find files that `datasets` would read wrongly among those that it finds by itself.

    Raises:
        `ValueError`: as [`plain_text`], and for a file with a mark.
    """
    for path in paths:
        if path.suffix in TEXT_FILES and path.is_file() and plain_text(path) != path:
            raise ValueError(f"{path} begins with a mark of its encoding; save it as UTF-8 without one.")


def _check_table(path: Path, separator: str) -> None:
    with path.open("rb") as file:
        encoding = encoding_of(file.read(4))
    with path.open(encoding=encoding, newline="") as file, _long_fields():
        # tables with tabs are published without quotation marks around a text that holds some
        rows = csv.reader(file, delimiter=separator, strict=separator == ",")
        name = "a comma" if separator == "," else "a tab"
        try:
            header = next(_filled(rows), [])
            repeated = sorted({name for name in header if header.count(name) > 1})
            if repeated:
                raise ValueError(f"{path} has the column {repeated[0]!r} twice; rename one.")
            number = -1
            for number, row in enumerate(_filled(rows)):
                if len(row) != len(header):
                    raise ValueError(
                        f"Row {number} of {path}, which ends in line {rows.line_num}, has {len(row)} fields, and the header has "
                        f'{len(header)}; a text with {name} stands in quotation marks, as "a cat{separator} sitting".'
                    )
        except csv.Error as error:
            raise ValueError(
                f"{path} cannot be read as {path.suffix[1:]} beyond line {rows.line_num} ({error}); a quotation mark inside quotation marks "
                'is doubled, as """Stop"" on a sign".'
            ) from None
    if number < 0:
        raise ValueError(f"{path} is empty; it needs at least one row with a `prompt`.")


def _filled(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """The rows that are not empty lines, which `datasets` passes over."""
    return (row for row in rows if row)


@contextmanager
def _long_fields() -> Iterator[None]:
    limit = csv.field_size_limit(sys.maxsize)  # a field may hold a picture
    try:
        yield
    finally:
        csv.field_size_limit(limit)
