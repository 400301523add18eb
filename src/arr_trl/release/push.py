"""Put a release on the Hub: adapters, card and samples in one commit, so that a failure leaves the repository as it was."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import HFValidationError, HTTPError, RemoteEntryNotFoundError
from huggingface_hub.utils import validate_repo_id
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from ..adapter_names import ADAPTER_FILES, TRANSFORMER_FOLDER, TRANSFORMER_WEIGHTS, called, path_in_repo
from ..hub_errors import asked_to_wait, hub_problem, no_answer, response_of
from ..text_files import decode, read_json, read_text
from .card_sections import CardSection, merge_section, read_sections


logger = logging.getLogger(__name__)

_ATTEMPTS = 5
_BACKOFF = wait_exponential(multiplier=1, max=30)
_LONGEST_WAIT = 60  # seconds that a server may ask us to wait before we give up instead
# 409 and 412: somebody else committed between our reading and our commit
_TRANSIENT = (408, 409, 412, 429, 500, 502, 503, 504)


class PushError(RuntimeError):
    """A push that did not happen: which repository, why, and what to do. The local files are all kept."""


@dataclass(frozen=True)
class Push:
    """
    What was sent, or would be.

    Args:
        repo_id (`str`): the repository, with its namespace.
        files (`dict[str, Path]`): path in the repository and the local file it comes from; README.md is merged.
        commit_url (`str`, *optional*): the commit; `None` for a dry run.
    """

    repo_id: str
    files: dict[str, Path]
    commit_url: str | None = None


def push_to_hub(
    folder: str | os.PathLike,
    repo_id: str,
    subfolder: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    dry_run: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
) -> Push:
    """
    Push adapters of a release to a repository on the Hub, beside the adapters that are there already.

    One commit holds the three files of each adapter, or the `transformer` folder of a full fine-tune, its sample sheet as `samples/<adapter>.png`, the pictures of its
    gallery, and README.md with the adapter's section merged into the card of the repository. Nothing else of `folder` is
    sent.

    Args:
        folder (`str` or `os.PathLike`):
            Folder of the release: README.md and one subfolder per adapter, or one adapter beside README.md.
        repo_id (`str`):
            Repository such as `"user/name"`; created when missing.
        subfolder (`str`, *optional*):
            The adapter to push; all adapters of `folder` by default.
        private (`bool`, *optional*):
            Visibility of a repository that has to be created; by default what the namespace prefers.
        token (`str`, *optional*):
            Token with write permission; by default the one that is logged in.
        dry_run (`bool`, *optional*, defaults to `False`):
            Check the folder and tell what would be sent, without a connection.
        revision (`str`, *optional*):
            Branch to commit to; created when missing. `main` by default.
        commit_message (`str`, *optional*):
            First line of the commit message.

    Returns:
        [`Push`]

    Raises:
        `ValueError`: when `folder` is not a release or `repo_id` is not a name the Hub accepts.
        [`PushError`]: when the Hub refuses or cannot be reached; the message names the remedy.
    """
    folder = Path(folder)
    sections = released_sections(folder, subfolder)
    check_repo_id(repo_id)
    files = dict(_files(folder, sections))
    if dry_run:
        return Push(repo_id, files)

    api = HfApi(token=token)
    message = commit_message or f"Upload {', '.join(called(section.subfolder) for section in sections)}"
    attempts = patiently()
    try:
        repo_id = attempts(_create_repo, api, repo_id, private, revision)
        commit_url = attempts(_commit, api, repo_id, revision, sections, files, message)
    except (HTTPError, OSError, RuntimeError, JSONDecodeError) as error:
        again = f"arr-trl push {folder} --repo_id {repo_id}" + (f" --subfolder {subfolder}" if subfolder else "")
        raise PushError(
            f"Could not push to {repo_id}: {hub_problem(error, repo_id)} A push is one commit, so nothing is half there; "
            f"your files are kept in {folder}, and `{again}` tries again."
        ) from error
    except ValueError as error:  # the card: ours is not accepted, or the one on the Hub is not readable
        raise PushError(f"Could not push to {repo_id}: {error} Your files are kept in {folder}.") from error
    return Push(repo_id, files, commit_url)


def released_sections(folder: Path, subfolder: str | None) -> list[CardSection]:
    """The sections of the local card whose adapters are to be pushed, each with its files in place."""
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}; give the output folder of a training run.")
    readme = folder / "README.md"
    sections = {s.subfolder: s for s in read_sections(read_text(readme))} if readme.is_file() else {}
    # checkpoints hold adapter files too, but the card does not speak of them
    named = [name for name in sections if (folder / name).is_dir()] if subfolder is None else [subfolder]
    if not named:
        raise ValueError(
            f"{folder} holds no release: there is no README.md that speaks of an adapter in one of its subfolders. Give the folder "
            "above the adapter's own, and write the card with write_model_card if there is none."
        )
    for name in named:
        files = files_of(folder, sections[name]) if name in sections else list(ADAPTER_FILES)
        missing = [file for file in files if not (folder / name / file).is_file()]
        if missing:
            raise ValueError(
                f"{'The model' if files[0] not in ADAPTER_FILES else 'The adapter'} {folder / name} lacks {', '.join(missing)}; README.md speaks of: "
                f"{', '.join(sections) or 'none'}."
            )
        if name not in sections:
            raise ValueError(f"{readme} has no section for {name}; write it with write_model_card before you push.")
    return [sections[name] for name in named]


def files_of(folder: Path, section: CardSection) -> list[str]:
    """What a section is of, in its folder: the files of an adapter, or those of a transformer that belong together."""
    if not section.is_full:
        return list(ADAPTER_FILES)
    place = folder / section.subfolder / TRANSFORMER_FOLDER
    index = place / f"{TRANSFORMER_WEIGHTS}.index.json"
    files = ["config.json", TRANSFORMER_WEIGHTS]
    if index.is_file():
        files = ["config.json", index.name, *sorted(set(read_json(read_text(index))["weight_map"].values()))]
    return [f"{TRANSFORMER_FOLDER}/{file}" for file in files]


def _files(folder: Path, sections: list[CardSection]) -> Iterator[tuple[str, Path]]:
    for section in sections:
        for name in files_of(folder, section):
            yield path_in_repo(section.subfolder, name), folder / section.subfolder / name
        samples = section.facts["samples"]
        if samples is not None and (folder / samples).is_file():
            yield _samples_path(section), folder / samples
        for picture in section.facts.get("gallery", []):
            if (folder / picture["file"]).is_file():
                yield picture["file"], folder / picture["file"]
    yield "README.md", folder / "README.md"


def _samples_path(section: CardSection) -> str:
    """Where a sample sheet goes: every adapter of a repository has its own."""
    return f"samples/{called(section.subfolder)}{PurePosixPath(section.facts['samples']).suffix}"


def _create_repo(api: HfApi, repo_id: str, private: bool | None, revision: str | None) -> str:
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and revision != constants.DEFAULT_REVISION:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    return repo_id


def _commit(
    api: HfApi,
    repo_id: str,
    revision: str | None,
    sections: list[CardSection],
    files: dict[str, Path],
    message: str,
) -> str:
    """
    Merge the card with the one on the Hub and commit, on condition that nobody else commits in between.

    Repeating it is safe: the merge gives the same card again, and files that have arrived are not sent twice.
    """
    parent = api.model_info(repo_id, revision=revision).sha
    try:
        path = Path(api.hf_hub_download(repo_id, "README.md", revision=parent))
        readme = decode(path.read_bytes(), "its README.md")
    except RemoteEntryNotFoundError:
        readme = None
    for section in sections:
        samples = section.facts["samples"] and _samples_path(section)
        section = section.published(repo_id, samples if samples in files else None, files)
        readme = merge_section(readme, section, title=repo_id.split("/")[-1])
    contents = {**files, "README.md": readme.encode()}
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in contents.items()]
    return api.create_commit(
        repo_id, operations, commit_message=message, revision=revision, parent_commit=parent
    ).commit_url


def check_repo_id(repo_id: str) -> None:
    """
    Raises:
        `ValueError`: when the Hub accepts no repository of this name.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} cannot name a repository on the Hub: {error}") from None


def patiently() -> Retrying:
    """What calls a function again while its errors are such as pass."""
    return Retrying(
        stop=stop_after_attempt(_ATTEMPTS), wait=_wait, retry=retry_if_exception(_is_transient), reraise=True
    )


def _is_transient(error: BaseException) -> bool:
    response = response_of(error)
    if response is None:
        return no_answer(error)
    return response.status_code in _TRANSIENT and asked_to_wait(response) <= _LONGEST_WAIT


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception()
    response = response_of(error)
    seconds = max(_BACKOFF(state), 0.0 if response is None else asked_to_wait(response))
    logger.warning("The Hub did not take the push (%s); trying again in %.1f s.", type(error).__name__, seconds)
    return seconds
