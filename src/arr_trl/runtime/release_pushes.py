"""Pushes of a Trainer: the release and nothing else, beside training, and one that fails is told and tried again."""

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from ..folders import replacing_files
from ..release import ADAPTER_FILES, Push, push_to_hub
from .background_push import BackgroundPush, create_repo, push_folder, stage
from .checkpoints import PUSHING


class ReleasePushes:
    """
    A mixin for any [`~transformers.Trainer`]; [`ResumableTrainer`] has it.

    What is released is an adapter: with `push_to_hub` the configuration has `adapter_subfolder`, where the trainer saves
    it, and `create_model_card` writes the card. A trainer that releases something else says so in `_release_checkpoint`
    and `_push_release`.
    """

    def __init__(self, *args, **kwargs):
        self._push = BackgroundPush()
        self._writing: Path | None = None  # while a checkpoint is written: the folder beside its place
        super().__init__(*args, **kwargs)

    def _check_repositories(self, args: TrainingArguments) -> None:
        """Create what the run pushes to, or find out that it cannot be written to, before anything is loaded."""
        if args.push_to_hub and args.process_index == 0:
            repo_id = args.hub_model_id or Path(args.output_dir).absolute().name
            args.hub_model_id = create_repo(repo_id, args.hub_private_repo, args.hub_token)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        self.hub_model_id = self.args.hub_model_id  # `_check_repositories` has made it

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        subfolder: str | None = None,
        **kwargs,
    ) -> Push | None:
        """
        Save the adapter, write the card, and push both to `hub_model_id`, beside the adapters that are there.

        Args:
            commit_message (`str`, *optional*, defaults to `"End of training"`):
                First line of the commit message.
            blocking (`bool`, *optional*, defaults to `True`):
                Wait for the end of the push; without it a failure is only logged.
            token (`str`, *optional*):
                Token with write permission; `hub_token` or the one that is logged in by default.
            revision (`str`, *optional*):
                Branch to commit to; `hub_revision` by default.
            private (`bool`, *optional*):
                Visibility of a repository that has to be created; `hub_private_repo` by default.
            subfolder (`str`, *optional*):
                Folder of the adapter in the repository; `adapter_subfolder` by default.
            kwargs (*optional*):
                Arguments of `create_model_card`.

        Returns:
            [`~arr_trl.release.Push`]: what was sent; `None` in the background and on the other processes.

        Raises:
            [`~arr_trl.release.PushError`]: when the Hub refuses or cannot be reached. The files are kept.
        """
        self._push.wait()
        if subfolder is not None:
            self.args.adapter_subfolder = subfolder
        self.save_model(_internal_call=True)
        self.create_model_card(**kwargs)
        if not self.is_world_process_zero():
            return None
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        arguments = (commit_message, token, revision, private)
        if not blocking:
            self._push.start(self._push_release, *arguments)
            return None
        push = self._push_release(*arguments)
        self._push.failure = None
        return push

    def _push_release(
        self,
        commit_message: str | None,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
    ) -> Push:
        args = self.args
        return self._send_release(
            self.hub_model_id or args.hub_model_id or Path(args.output_dir).absolute().name,
            private=args.hub_private_repo if private is None else private,
            token=token or args.hub_token,
            revision=revision or args.hub_revision,
            commit_message=commit_message,
        )

    def _send_release(self, repo_id: str, **options: Any) -> Push:
        """Push what a release consists of; `options` are those of [`~arr_trl.release.push_to_hub`]."""
        return push_to_hub(self.args.output_dir, repo_id, subfolder=self.args.adapter_subfolder, **options)

    def _write_card_and_push(self, commit_message: str) -> None:
        self.create_model_card()
        self._push_release(commit_message)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        args = self.args
        if self._writing is not None:  # it is called again when the checkpoint is in its place
            return
        if not self.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
            return
        if self._push.busy:
            if not args.hub_always_push:
                return
            self._push.wait()
        self._push.attempt(self._start_push, Path(checkpoint_folder))

    def _start_push(self, checkpoint: Path) -> None:
        """Write the release and its card, and begin to push them beside training."""
        args = self.args
        self.callback_handler.on_push_begin(args, self.state, self.control)
        self._release_checkpoint(checkpoint)
        self.create_model_card()
        message = f"Training in progress, step {self.state.global_step}"
        if args.hub_strategy == HubStrategy.EVERY_SAVE:
            self._push.start(self._push_release, message)
            return
        staged = Path(args.output_dir) / PUSHING / checkpoint.name
        stage(checkpoint, staged)
        path_in_repo = "last-checkpoint" if args.hub_strategy == HubStrategy.CHECKPOINT else checkpoint.name
        self._push.start(self._push_with_checkpoint, message, staged, path_in_repo)

    def _release_checkpoint(self, checkpoint: Path) -> None:
        """Bring what is released to the state of a checkpoint; copied, since gathering weights anew takes all processes."""
        with replacing_files(Path(self.args.output_dir) / self.args.adapter_subfolder, ADAPTER_FILES) as written:
            for name in ADAPTER_FILES:
                shutil.copy2(checkpoint / name, written / name)

    def _push_with_checkpoint(self, commit_message: str, staged: Path, path_in_repo: str) -> None:
        args = self.args
        try:
            repo_id = self._push_release(commit_message).repo_id
            message = f"{commit_message}, checkpoint"
            push_folder(staged, repo_id, path_in_repo, message, args.hub_token, args.hub_revision)
        finally:
            shutil.rmtree(staged.parent, ignore_errors=True)

    def _finish_current_push(self) -> None:
        self._push.wait()

    @property
    def push_failure(self) -> str | None:
        """What went wrong with the last push that Trainer made by itself; `None` when it succeeded."""
        return self._push.failure
