"""A rubric on the Hub: a repository with a `rubric.json`, and a card that shows it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from ..hub_errors import hub_problem
from ..text_files import decode


RUBRIC_FILE = "rubric.json"
_TAG = "arr-trl-rubric"  # tells a card of ours from any other
_CARD = """---
tags:
- {tag}
---

{markdown}
Use it as the reward of a run, or to judge pairs:

```python
from arr_trl import Rubric

rubric = Rubric.from_hub("{repo_id}")
```

[arr_trl](https://huggingface.co/papers/2605.08354) aligns image generators with judges you can read.
"""


class RubricHubError(RuntimeError):
    """The Hub did not take a rubric; the message says what to do."""


@dataclass(frozen=True)
class Upload:
    """What was sent, or would be: `files` maps names in the repository to contents; `commit_url` is the commit."""

    repo_id: str
    files: dict[str, str]
    commit_url: str | None = None


def download(repo_id: str, revision: str | None = None, token: str | None = None) -> str:
    """
    Path of the `rubric.json` of a repository, in the cache.

    Raises:
        `FileNotFoundError`: when there is no such repository, revision or file, or the Hub cannot be reached and the
            cache does not hold it.
    """
    try:
        return hf_hub_download(repo_id, RUBRIC_FILE, revision=revision, token=token)
    except (RepositoryNotFoundError, EntryNotFoundError, RevisionNotFoundError, LocalEntryNotFoundError) as error:
        at = f" at {revision}" if revision else ""
        raise FileNotFoundError(
            f"There is no `{RUBRIC_FILE}` in a repository {repo_id}{at} on the Hub that can be reached; check the name."
        ) from error


def upload(
    repo_id: str,
    rubric_json: str,
    markdown_of: Callable[[str], str],
    private: bool | None,
    token: str | None,
    dry_run: bool,
) -> Upload:
    """
    Put a rubric and its card into a repository, in one commit. Of a card that is there the rubric alone is replaced.

    Args:
        markdown_of (`Callable`): the Markdown of a rubric as JSON, the one here or the one that is there.

    Raises:
        `ValueError`: when `repo_id` is no name the Hub accepts.
        [`RubricHubError`]: when the Hub refuses or cannot be reached.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} cannot name a repository on the Hub: {error}") from None
    card = _CARD.format(tag=_TAG, markdown=markdown_of(rubric_json), repo_id=repo_id)
    files = {RUBRIC_FILE: rubric_json, "README.md": card}
    if dry_run:
        return Upload(repo_id, files)
    api = HfApi(token=token)
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        files["README.md"] = _CARD.format(tag=_TAG, markdown=markdown_of(rubric_json), repo_id=repo_id)
        if (there := _read(api, repo_id, "README.md")) is not None:
            former = _read(api, repo_id, RUBRIC_FILE)
            card = None if former is None else _with_rubric(there, former, rubric_json, markdown_of)
            if card is None:
                del files["README.md"]
            else:
                files["README.md"] = card
        operations = [CommitOperationAdd(name, content.encode()) for name, content in files.items()]
        commit = api.create_commit(repo_id, operations, commit_message=f"Upload {RUBRIC_FILE}")
    except (HTTPError, OSError) as error:
        raise RubricHubError(f"Could not push the rubric to {repo_id}: {hub_problem(error, repo_id)}") from error
    return Upload(repo_id, files, commit.commit_url)


def _read(api: HfApi, repo_id: str, name: str) -> bytes | None:
    try:
        path = api.hf_hub_download(repo_id, name)
    except EntryNotFoundError:
        return None
    return Path(path).read_bytes()


def _with_rubric(card: bytes, former: bytes, rubric_json: str, markdown_of: Callable[[str], str]) -> str | None:
    """
    A card with a rubric in place of the one before, and all that people wrote around it as it is; `None` to leave it alone: a
    card of something else, or one that was edited inside the rubric.
    """
    if f"- {_TAG}".encode() not in card:  # whatever its encoding is
        return None
    try:
        text = decode(card, "README.md")
        newline = "\r\n" if "\r\n" in text else "\n"
        before, new = (
            markdown_of(rubric).replace("\n", newline) for rubric in (decode(former, RUBRIC_FILE), rubric_json)
        )
    except ValueError:
        before = None
    if before is None or text.count(before) != 1:
        warnings.warn(
            f"README.md does not show the rubric as the {RUBRIC_FILE} beside it has it; it was left as it is. Remove it, and the "
            "next push writes a new one."
        )
        return None
    return text.replace(before, new)
