"""JSON as people and models write it, in which no key stands twice."""

import json
from typing import Any


def loads_strictly(text: str) -> Any:
    """
    The value of a JSON text. Everything else that reads JSON lets the last of two equal keys win.

    Raises:
        `ValueError`: when it is not JSON (`json.JSONDecodeError`), nested too deep, or has a key twice in one object.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object; leave one of them")
    return found
