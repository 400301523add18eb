"""
Text that people write and edit: one reader for every encoding that an editor marks, and one idea of what a line is. It
imports nothing heavy, since commands read their files first.
"""

import codecs
import json
import os
import re
from pathlib import Path
from typing import Any


# Marks that editors put at the beginning of a file; that of UTF-32 begins as that of UTF-16 does.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: str | os.PathLike) -> str:
    """
    The text of a file, with its line ends as they are and without the mark of its encoding.

    Args:
        path (`str` or `os.PathLike`): a file in UTF-8, or in UTF-16 or UTF-32 with a mark, as editors save it.

    Raises:
        `OSError`: when it cannot be read.
        `ValueError`: when it is in none of these; the file and the line are named.
    """
    return decode(Path(path).read_bytes(), str(path))


def decode(content: bytes, name: str) -> str:
    """[`read_text`] of what a file holds; `name` is what it is called in the error."""
    encoding = encoding_of(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, errors="replace")
        # not from it: a cause of the Hub's errors would be looked for in it
        raise ValueError(
            f"{name} is no text in {encoding.removesuffix('-sig').upper()}: line {len(lines_of(before))} has the byte "
            f"0x{content[error.start]:02x} where no character can have it; save it as UTF-8."
        ) from None
    if "\0" in text:  # text in UTF-16 without its mark reads as UTF-8, a NUL beside each letter
        raise ValueError(f"{name} holds NUL characters, as UTF-16 without a mark does; save it as UTF-8.")
    return text


def encoding_of(beginning: bytes) -> str:
    """The codec for a file that begins like this."""
    return next((codec for mark, codec in _MARKS.items() if beginning.startswith(mark)), "utf-8")


def lines_of(text: str) -> list[str]:
    """
    The lines of a text as editors count them. `str.splitlines` ends lines in the middle of a sentence too: at U+2028,
    U+0085, a form feed and others that JSON strings and prompts may hold.
    """
    return re.split(r"\r\n|\n|\r", text)


def read_json(text: str) -> Any:
    """
    The value of a JSON text, of which no key may come twice: which of the two is meant, nobody can tell.

    Raises:
        `ValueError`: when it is no JSON, a key comes twice, or it is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json_of(text: str, name: str) -> Any:
    """[`read_json`] of what a file or a line of it holds; `name` is what it is called in the error."""
    try:
        return read_json(text)
    except ValueError as error:
        raise ValueError(f"{name} is no JSON that can be read ({error}); repair it.") from None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` of a reader of JSON that refuses an object of which a key comes twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} comes twice")
        found[key] = value
    return found
