"""A rubric on the Hub: a repository with a `rubric.json`, and a card that shows it."""

from dataclasses import dataclass

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
    repo_id: str, rubric_json: str, markdown: str, private: bool | None, token: str | None, dry_run: bool
) -> Upload:
    """
    Put a rubric and its card into a repository, in one commit.

    Raises:
        `ValueError`: when `repo_id` is no name the Hub accepts.
        [`RubricHubError`]: when the Hub refuses or cannot be reached.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} cannot name a repository on the Hub: {error}") from None
    files = {RUBRIC_FILE: rubric_json, "README.md": _CARD.format(tag=_TAG, markdown=markdown, repo_id=repo_id)}
    if dry_run:
        return Upload(repo_id, files)
    api = HfApi(token=token)
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        files["README.md"] = _CARD.format(tag=_TAG, markdown=markdown, repo_id=repo_id)
        if _has_another_card(api, repo_id):
            del files["README.md"]
        operations = [CommitOperationAdd(name, content.encode()) for name, content in files.items()]
        commit = api.create_commit(repo_id, operations, commit_message=f"Upload {RUBRIC_FILE}")
    except (HTTPError, OSError) as error:
        raise RubricHubError(f"Could not push the rubric to {repo_id}: {hub_problem(error, repo_id)}") from error
    return Upload(repo_id, files, commit.commit_url)


def _has_another_card(api: HfApi, repo_id: str) -> bool:
    try:
        path = api.hf_hub_download(repo_id, "README.md")
    except EntryNotFoundError:
        return False
    with open(path, "rb") as file:  # whatever its encoding is
        return f"- {_TAG}".encode() not in file.read()
