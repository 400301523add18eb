"""Names on the Hub, looked at before a client spends half a minute on retries."""

import socket
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from datasets import config
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


def check_source(name: str, setting: str, kind: Literal["model", "dataset"]) -> None:
    """
    Find out that a name leads nowhere: that it is no path, and can be no repository, or none that can be had without a
    connection.

    Args:
        name (`str`): local path or id on the Hub.
        setting (`str`): what the user wrote it as, for the error.
        kind (`str`): `"model"` or `"dataset"`.

    Raises:
        `FileNotFoundError`: when there is no such path and no such repository.
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
    cached = Path(constants.HF_HUB_CACHE, f"{kind}s--{name.replace('/', '--')}")
    prepared = Path(config.HF_DATASETS_CACHE, name.replace("/", "___"))
    if cached.exists() or (kind == "dataset" and prepared.exists()):
        return
    problem = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else _unreachable()
    if problem is not None:
        raise ConnectionError(
            f"{setting}={name!r}: there is nothing at this path, and {problem}, so it cannot be looked for on the Hub; "
            "check the path or the connection."
        )


def _unreachable() -> str | None:
    if getproxies().keys() - {"no"}:  # only the client knows its way
        return None
    url = urlsplit(constants.ENDPOINT)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname, port), timeout=10).close()
    except OSError as error:
        return f"{constants.ENDPOINT} cannot be reached ({error})"
    return None
