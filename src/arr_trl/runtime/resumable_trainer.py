"""What a Trainer needs so that nothing is lost: whole checkpoints, an orderly end on signals, releases on the Hub."""

import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import IterableDataset
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import TrainerState, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import HubStrategy, rotate_checkpoints
from transformers.utils import ADAPTER_SAFE_WEIGHTS_NAME

from ..data import StreamError
from ..release import ADAPTER_FILES, Push, push_to_hub
from .background_push import BackgroundPush, create_repo, push_folder, stage
from .checkpoints import (
    PUSHING,
    WRITING,
    CheckpointError,
    check_settings,
    checkpoint_name,
    find_checkpoint,
    remove_leftovers,
    seal,
    write_failure,
)
from .interruption import InterruptionCallback, TrainingInterrupted
from .sharding import load_adapter, load_optimizer_state_dict, optimizer_state_dict, trainable_state_dict


logger = logging.getLogger(__name__)


class ResumableTrainer:
    """
    A mixin for any [`~transformers.Trainer`], named before it. What differs, in short:

    - A checkpoint appears in one step, sealed; a damaged one is refused. `resume_from_checkpoint` also takes `True` (the
      newest whole one, or the beginning) and a checkpoint on the Hub.
    - SIGTERM and SIGINT end training after the current step, with a checkpoint.
    - Prompts that cannot be read further end it with a checkpoint too, and so does whatever else is raised, as far as
      the processes of the run can agree on it.
    - Only releases are pushed (see [`~arr_trl.release.push_to_hub`]), never the whole folder; a push that fails is
      logged, and training goes on.

    What is released is an adapter: with `push_to_hub` the configuration has `adapter_subfolder`, where the trainer saves
    it, and `create_model_card` writes the card. A trainer that releases something else says so in `_release_checkpoint`
    and `_push_release`.
    """

    # What `args.resume_from_checkpoint` names, where a subclass looked for it before it loaded anything.
    _resumable: Path | None = None

    def __init__(self, *args, **kwargs):
        self._writing: Path | None = None  # while a checkpoint is written: the folder beside its place
        self.last_checkpoint: Path | None = None  # the one written last, or resumed from
        self._saved_step = 0
        self._step_began: tuple[int, dict] = (-1, {})  # an optimizer step, and the state in which it began
        self._push = BackgroundPush()
        super().__init__(*args, **kwargs)
        self._interruption = InterruptionCallback(self._largest)
        self.add_callback(self._interruption)

    def _largest(self, number: int) -> int:
        """The largest of the numbers that all processes call this with."""
        if self.accelerator.num_processes == 1:
            return number
        return int(self.accelerator.gather(torch.tensor([number], device=self.accelerator.device)).max())

    # Resuming

    def train(self, resume_from_checkpoint: str | os.PathLike | bool | None = None, *args, **kwargs):
        """
        Train, or go on training; see [`~transformers.Trainer.train`].

        Args:
            resume_from_checkpoint (`str`, `os.PathLike` or `bool`, *optional*):
                Folder of a checkpoint; `True` for the newest whole one of `output_dir`, or the beginning where there is
                none; or one on the Hub: `"user/repo"` or `"user/repo/checkpoint-20"`.

        Raises:
            [`CheckpointError`]: when the checkpoint cannot be used, or one cannot be written.
            [`TrainingInterrupted`]: when SIGTERM or SIGINT ended training; a checkpoint is written then.
            [`StreamError`]: when the prompts cannot be read further; a checkpoint is written then.
        """
        # once: it is read as a whole; a second training looks again, since there may be a newer one
        self.last_checkpoint, self._resumable = self._resumable, None
        if self.last_checkpoint is None or resume_from_checkpoint != self.args.resume_from_checkpoint:
            with self.accelerator.local_main_process_first():
                self.last_checkpoint = find_checkpoint(
                    resume_from_checkpoint, Path(self.args.output_dir), self.args.hub_token
                )
        asked = str(resume_from_checkpoint).lower() == "true"  # the command line has only text
        if asked and self.last_checkpoint is None and self.is_world_process_zero():
            logger.warning("There is no checkpoint in %s yet; training begins at the beginning.", self.args.output_dir)
        if self.last_checkpoint is not None:
            check_settings(self.last_checkpoint, self._fixed_settings())
        if self.is_world_process_zero():
            remove_leftovers(Path(self.args.output_dir))
        checkpoint, self._saved_step, self._step_began = None, 0, (-1, {})
        if self.last_checkpoint is not None:
            checkpoint = str(self.last_checkpoint)
            self._saved_step = TrainerState.load_from_json(os.path.join(checkpoint, TRAINER_STATE_NAME)).global_step
            if self.is_world_process_zero():
                print(f"Training goes on from {checkpoint}, after step {self._saved_step}.")
        try:
            output = super().train(checkpoint, *args, **kwargs)
        except (CheckpointError, StreamError):
            raise
        except Exception as error:
            if self.accelerator.num_processes == 1:  # several could not agree here
                self._save_before_raising(error)
            raise
        finally:
            self._interruption.restore()
        number = self._largest(self._interruption.number)
        if number:
            self._save_unless_saved()
            message = (
                f"Training was interrupted after step {self.state.global_step} of {self.state.max_steps}. Go on with "
                f"--resume_from_checkpoint {self.last_checkpoint}"
            )
            if self.is_world_process_zero():
                print(message, file=sys.stderr)
            raise TrainingInterrupted(number, message)
        return output

    def _fixed_settings(self) -> dict[str, Any]:
        """What a checkpoint is only good for when a run resumes with the same; all that may count."""
        return {"num_processes": self.args.world_size}

    def _sealed_settings(self) -> dict[str, Any]:
        """Those of them that count for a checkpoint of this moment."""
        return self._fixed_settings()

    def _owner_state(self) -> dict[str, Any]:
        """Random states, buffers and counters that Trainer does not know of."""
        return {}

    def _restore_owner_state(self, state: dict[str, Any]) -> None:
        """Go back to what [`~ResumableTrainer._owner_state`] returned."""

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        if self._step_began[0] != self.state.global_step:
            self._step_began = (self.state.global_step, self._owner_state())
        return super().training_step(*args, **kwargs)

    def _save_before_raising(self, error: Exception) -> None:
        """
        Keep what was trained when `error` is about to end the run, and tell where it is. Called by all processes, or
        by the only one.
        """
        if self._interruption.updating:  # the weights are half one step and half the next
            return
        step, state = self._step_began
        if step == self.state.global_step:  # in the middle of a step: it is begun anew on resume
            self._restore_owner_state(state)
        self._save_unless_saved()
        logger.error(
            "Training stopped after step %d (%s: %s). %s",
            self.state.global_step,
            type(error).__name__,
            error,
            f"Go on with --resume_from_checkpoint {self.last_checkpoint}"
            if self.last_checkpoint
            else "Nothing was trained yet.",
        )

    def _stop_together(self, failure: Exception | None, of_another: str) -> None:
        """End the run on all processes when one of them failed."""
        if self._largest(int(failure is not None)):
            failure = failure or RuntimeError(of_another)
            if self.accelerator.num_processes > 1:  # `train` keeps what was trained for one
                self._save_before_raising(failure)
            raise failure

    def _run_epoch(self, *args, **kwargs):
        if self.state.global_step >= self.state.max_steps:
            # the checkpoint was the last one: Trainer would train a step more (transformers 5.23)
            self._load_rng_state(kwargs["resume_from_checkpoint"])
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def get_batch_samples(self, *args, **kwargs):
        error = None
        try:
            batches = super().get_batch_samples(*args, **kwargs)
        except StreamError as stream_error:
            error = stream_error
        if self._streams() and self._largest(int(error is not None)):
            self._save_unless_saved()
            raise StreamError(
                f"{error or 'Another process could not read its prompts.'} Training stopped after step "
                f"{self.state.global_step}; "
                + (
                    f"go on with --resume_from_checkpoint {self.last_checkpoint}"
                    if self.last_checkpoint
                    else "nothing was trained yet."
                )
            ) from error
        return batches

    def _streams(self) -> bool:
        return isinstance(self.train_dataset, IterableDataset)

    # Checkpoints

    def _save_unless_saved(self) -> None:
        if self.state.global_step != self._saved_step:
            self._save_checkpoint(self.model_wrapped, trial=None)

    def _get_output_dir(self, trial) -> str:
        return super()._get_output_dir(trial) if self._writing is None else str(self._writing)

    def _save_checkpoint(self, model, trial) -> None:
        output_dir = Path(super()._get_output_dir(trial))
        folder = output_dir / checkpoint_name(self.state.global_step)
        error = None
        self._writing = output_dir / WRITING
        try:
            super()._save_checkpoint(model, trial)
            self._name_best(output_dir)
        # torch and safetensors have errors of their own for a disk that is full
        except (OSError, RuntimeError, SafetensorError) as write_error:
            error = write_error
        written, self._writing = self._writing / folder.name, None
        # the second turn is for nodes with disks of their own
        for is_mine in (self.is_world_process_zero(), self.is_local_process_zero()):
            if self._largest(int(error is not None)):  # waits for everybody's part, too
                shutil.rmtree(written.parent, ignore_errors=True)
                raise write_failure(folder, error) from error
            try:
                if is_mine and written.is_dir():
                    seal(written, folder, self._sealed_settings())
            except OSError as write_error:
                error = write_error
        if self._largest(int(error is not None)):
            raise write_failure(folder, error) from error
        self.last_checkpoint, self._saved_step = folder, self.state.global_step
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=str(output_dir),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.accelerator.is_fsdp2:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = optimizer_state_dict(self.optimizer)
        if self.args.should_save:
            torch.save(state, os.path.join(output_dir, OPTIMIZER_NAME))
            torch.save(self.lr_scheduler.state_dict(), os.path.join(output_dir, SCHEDULER_NAME))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if not self.accelerator.is_fsdp2:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        load_adapter(self.model, load_file(os.path.join(resume_from_checkpoint, ADAPTER_SAFE_WEIGHTS_NAME)))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self.accelerator.is_fsdp2:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        files = [os.path.join(checkpoint, name) for name in (OPTIMIZER_NAME, SCHEDULER_NAME)]
        if not all(os.path.isfile(file) for file in files):
            return  # `save_only_model` left out the rollouts, too, and who reads them says so
        state, schedule = (torch.load(file, map_location="cpu", weights_only=True) for file in files)
        load_optimizer_state_dict(self.optimizer, state)
        self.lr_scheduler.load_state_dict(schedule)

    def _name_best(self, output_dir: Path) -> None:
        # Trainer looks for the best checkpoint in the folder that is being written
        if not self.state.best_global_step:
            return
        best = output_dir / checkpoint_name(self.state.best_global_step)
        if self.state.best_global_step == self.state.global_step or best.is_dir():
            self.state.best_model_checkpoint = str(best)
            if self.args.should_save:
                name = checkpoint_name(self.state.global_step)
                self.state.save_to_json(str(self._writing / name / TRAINER_STATE_NAME))

    # Releases

    def _check_repositories(self, args: TrainingArguments) -> None:
        """Create what the run pushes to, or find out that it cannot be written to, before anything is loaded."""
        if args.push_to_hub and args.process_index == 0:
            repo_id = args.hub_model_id or Path(args.output_dir).absolute().name
            args.hub_model_id = create_repo(repo_id, args.hub_private_repo, args.hub_token)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        self.hub_model_id = self.args.hub_model_id  # `_check_repositories` has made it

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter; with `push_to_hub`, also push the release."""
        if not _internal_call:
            self._push.wait()  # it reads these files
        if self.is_fsdp_enabled:
            self._save(output_dir, state_dict=trainable_state_dict(self.model))
        else:
            super().save_model(output_dir, _internal_call=True)
        released = not _internal_call and output_dir in (None, self.args.output_dir)
        if self.args.push_to_hub and released and self.is_world_process_zero():
            self._push.attempt(self._write_card_and_push, "Model save")

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
        return push_to_hub(
            args.output_dir,
            self.hub_model_id or args.hub_model_id or Path(args.output_dir).absolute().name,
            subfolder=args.adapter_subfolder,
            private=args.hub_private_repo if private is None else private,
            token=token or args.hub_token,
            revision=revision or args.hub_revision,
            commit_message=commit_message,
        )

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
        folder = Path(self.args.output_dir) / self.args.adapter_subfolder
        folder.mkdir(exist_ok=True)
        for name in ADAPTER_FILES:
            copied = folder.with_name(f"{PUSHING}-{name}")
            shutil.copy2(checkpoint / name, copied)
            os.replace(copied, folder / name)

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
