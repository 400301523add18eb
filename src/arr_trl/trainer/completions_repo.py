"""The dataset on the Hub that `log_completions_hub_repo` names."""

import time
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HTTPError

from ..release import PushError
from ..release.card_sections import card_environment
from .background_push import BackgroundPush


_EVERY_S = 120  # the Hub limits commits an hour, and a rollout may be short


class CompletionsRepo:
    """
    Keeps a folder of tables on the Hub too, beside training: what has come together in two minutes is one commit, and
    what could not be sent is sent with the next.

    Args:
        repo_id (`str`): the dataset's repository, created when missing.
        folder (`Path`): where the tables are written.
        path_in_repo (`str`): folder in the repository, so that several adapters can share it.
        private (`bool`, *optional*): visibility of a repository that has to be created.
        token (`str`, *optional*): token with write permission.
    """

    def __init__(self, repo_id: str, folder: Path, path_in_repo: str, private: bool | None, token: str | None):
        self.repo_id, self.folder, self.path_in_repo = repo_id, folder, path_in_repo
        self._private, self._api = private, HfApi(token=token)
        self._new: set[str] = set()  # written or written again by this run, and not sent
        self._last = -float(_EVERY_S)
        self._push = BackgroundPush()

    def add(self, name: str) -> None:
        """Send the table `name` now or later."""
        self._new.add(name)
        if not self._push.busy and time.monotonic() - self._last >= _EVERY_S:
            self._last = time.monotonic()
            self._push.start(self._send, set(self._new))

    def finish(self) -> None:
        """Send what is left, and wait for it."""
        self._push.wait()
        if self._new:
            self._push.attempt(self._send, set(self._new))

    @property
    def failure(self) -> str | None:
        """What went wrong with the last commit."""
        return self._push.failure

    def _send(self, names: set[str]) -> None:
        try:
            self._api.create_repo(self.repo_id, repo_type="dataset", private=self._private, exist_ok=True)
            there = self._api.list_repo_files(self.repo_id, repo_type="dataset")
            # with what an earlier part of the run could not send
            left = {file.name for file in self.folder.glob("*.parquet")}
            names = names | {name for name in left if f"{self.path_in_repo}/{name}" not in there}
            files = {f"{self.path_in_repo}/{name}": self.folder / name for name in sorted(names & left)}
            if "README.md" not in there:
                card = card_environment().get_template("completions.md.jinja2").render(repo_id=self.repo_id)
                files["README.md"] = card.encode()
            self._api.create_commit(
                self.repo_id,
                [CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()],
                commit_message=f"{len(names)} tables of completions",
                repo_type="dataset",
            )
        except (HTTPError, OSError, RuntimeError) as error:
            raise PushError(
                f"Could not push completions to the dataset {self.repo_id}: {error} They are kept in {self.folder}, "
                "and the next push sends them too."
            ) from error
        self._new -= names
