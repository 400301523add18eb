"""Where the files of a pipeline are."""

from typing import Any


def file_kwargs(init_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Those arguments of `from_pretrained` that say which files are meant, good for any part of a pipeline."""
    return {name: init_kwargs[name] for name in ("cache_dir", "revision", "token") if name in init_kwargs}
