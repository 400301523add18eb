"""Pushes beside training: one at a time, and a push that fails is told and kept in mind, never raised."""

import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

from ..hub_errors import hub_problem, response_of
from ..release import PushError


logger = logging.getLogger(__name__)


class BackgroundPush:
    """At most one push at a time, in a thread of its own. `failure` is what went wrong with the last one."""

    def __init__(self):
        self.failure: str | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="arr_trl-push")
        self._running: Future | None = None

    @property
    def busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def start(self, push: Callable[..., None], *args) -> None:
        self._running = self._pool.submit(self.attempt, push, *args)

    def wait(self) -> None:
        if self._running is not None:
            self._running.result()

    def attempt(self, push: Callable[..., None], *args) -> None:
        """Push in this thread. Whatever fails is logged and kept: one process pushes, and the others train on."""
        self.failure = None
        try:
            push(*args)
        except PushError as error:
            self.failure = str(error)
        except Exception as error:  # disks, callbacks, the libraries that write the card and send files
            self.failure = f"The push failed ({type(error).__name__}: {error}); the next save tries again."
        if self.failure is not None:
            logger.error("%s Training is not affected.", self.failure)


def create_repo(repo_id: str, private: bool | None, token: str | None, kind: str = "model") -> str:
    """
    Find out before training whether the repository can be written to, and create it when missing.

    Args:
        repo_id (`str`): the repository.
        private (`bool`, *optional*): visibility if it has to be created.
        token (`str`, *optional*): token with write permission.
        kind (`str`, *optional*, defaults to `"model"`): `"model"` or `"dataset"`.

    Returns:
        `str`: the repository with its namespace, as far as it is known.

    Raises:
        `PermissionError`: when the Hub refuses the token.
        `ValueError`: when `repo_id` is not a name the Hub accepts.
    """
    try:
        api = HfApi(token=token)
        return api.create_repo(repo_id, private=private, repo_type=kind, exist_ok=True).repo_id
    except HTTPError as error:
        response = response_of(error)
        if response is not None and response.status_code in (401, 403):
            setting = "hub_model_id" if kind == "model" else "log_completions_hub_repo"
            raise PermissionError(
                f"The Hub does not let this token write to {repo_id}, which `{setting}` names: "
                f"{hub_problem(error, repo_id)}"
            ) from error
        logger.warning("Could not create %s: %s Every push will try again.", repo_id, hub_problem(error, repo_id))
    return repo_id


def push_folder(
    folder: Path, repo_id: str, path_in_repo: str, commit_message: str, token: str | None, revision: str | None
) -> None:
    """
    Push a folder in place of what `path_in_repo` holds, in one commit.

    Raises:
        [`~arr_trl.release.PushError`]: when the Hub refuses or cannot be reached.
    """
    try:
        HfApi(token=token).upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            path_in_repo=path_in_repo,
            revision=revision,
            commit_message=commit_message,
            delete_patterns="*",
        )
    except (HTTPError, OSError, RuntimeError) as error:
        raise PushError(
            f"Could not push {path_in_repo} to {repo_id}: {hub_problem(error, repo_id)} The next save tries again."
        ) from error


def stage(checkpoint: Path, staged: Path) -> None:
    """Keep the files of a checkpoint for a push, whatever rotation removes meanwhile; hard links where possible."""
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(checkpoint, staged, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
