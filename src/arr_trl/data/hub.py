"""Names on the Hub that lead nowhere, looked at before a client spends half a minute on retries."""

import os
import socket
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from datasets import config
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..folders import check_writable
from ..hub_errors import unreachable


def check_source(
    name: str, setting: str, kind: Literal["model", "dataset"], cache_dir: str | os.PathLike | None = None
) -> None:
    """
    Find out that a name leads nowhere: that it is no path, and can be no repository, or none that can be had without a
    connection.

    Args:
        name (`str`): local path or id on the Hub.
        setting (`str`): what the user wrote it as, for the error.
        kind (`str`): `"model"` or `"dataset"`.
        cache_dir (`str` or `os.PathLike`, *optional*): the cache, where it is not that of the client.

    Raises:
        `FileNotFoundError`: when there is no such path and no such repository.
        `OSError`: when it could be a model, nothing of it is in the cache, and the cache cannot be written to.
        `ConnectionError`: when it could be a repository, the Hub is out of reach, and nothing of it is in the cache.
    """
    if Path(name).exists():
        return
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise FileNotFoundError(
            f"{setting}={name!r}: there is nothing at this path, and it cannot be the id of a repository on the Hub, "
            "such as user/name; check it."
        ) from None
    if _is_cached(name, kind, cache_dir):
        return
    if kind == "model":  # a dataset may be streamed
        check_cache(name, cache_dir)
    problem = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else _unreachable()
    if problem is not None:
        raise ConnectionError(
            f"{setting}={name!r}: there is nothing at this path, and {problem}, so it cannot be looked for on the Hub; "
            "check the path or the connection."
        )


def check_cache(name: str, cache_dir: str | os.PathLike | None = None) -> None:
    """
    Find out that what is downloaded could not be kept.

    Args:
        name (`str`): id of a model on the Hub.
        cache_dir (`str` or `os.PathLike`, *optional*): the cache, where it is not that of the client.

    Raises:
        `OSError`: when nothing of the model is in the cache, and the cache cannot be written to.
    """
    if _is_cached(name, "model", cache_dir):  # by somebody else, in a cache that is for reading
        return
    if cache_dir is None:
        check_writable(constants.HF_HUB_CACHE, "HF_HUB_CACHE" if "HF_HUB_CACHE" in os.environ else "HF_HOME")
    else:
        check_writable(cache_dir, "cache_dir")


def check_dataset_cache() -> None:
    """
    Find out that `datasets` could not begin: it writes to its cache whatever it reads, streams and local files too.

    Raises:
        `OSError`: when the cache cannot be written to.
    """
    check_writable(config.HF_DATASETS_CACHE, "HF_DATASETS_CACHE" if "HF_DATASETS_CACHE" in os.environ else "HF_HOME")


def _is_cached(name: str, kind: str, cache_dir: str | os.PathLike | None) -> bool:
    if Path(cache_dir or constants.HF_HUB_CACHE, f"{kind}s--{name.replace('/', '--')}").exists():
        return True
    return kind == "dataset" and Path(config.HF_DATASETS_CACHE, name.replace("/", "___")).exists()


def _unreachable() -> str | None:
    if getproxies().keys() - {"no"}:  # only the client knows its way
        return None
    url = urlsplit(constants.ENDPOINT)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname, port), timeout=10).close()
    except OSError as error:
        return unreachable(error)
    return None
