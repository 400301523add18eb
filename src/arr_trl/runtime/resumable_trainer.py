"""What a Trainer needs so that nothing is lost: whole checkpoints, an orderly end on signals, releases on the Hub."""

import logging
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from datasets import IterableDataset
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import TrainerState
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import rotate_checkpoints
from transformers.utils import ADAPTER_SAFE_WEIGHTS_NAME

from ..data import StreamError
from .checkpoints import (
    WRITING,
    CheckpointError,
    check_settings,
    checkpoint_name,
    find_checkpoint,
    remove_leftovers,
    seal,
    write_failure,
)
from .finite import not_finite
from .interruption import InterruptionCallback, TrainingInterrupted
from .release_pushes import ReleasePushes
from .sharding import load_adapter, load_optimizer_state_dict, local_part, optimizer_state_dict, trainable_state_dict


logger = logging.getLogger(__name__)

# What a configuration says of an optimizer, beside the learning rate; the rest of a group is state.
_HYPERPARAMETERS = ("betas", "eps", "momentum", "weight_decay")


class ResumableTrainer(ReleasePushes):
    """
    A mixin for any [`~transformers.Trainer`], named before it. What differs, in short:

    - A checkpoint appears in one step, sealed; a damaged one is refused. `resume_from_checkpoint` also takes `True` (the
      newest whole one, or the beginning) and a checkpoint on the Hub.
    - SIGTERM and SIGINT end training after the current step, with a checkpoint.
    - A loss, gradient or weight that is not a finite number ends it before the optimizer's step, with a checkpoint of
      the last finite weights.
    - Prompts that cannot be read further end it with a checkpoint too, and so does whatever else is raised, as far as
      the processes of the run can agree on it.
    - Only releases are pushed (see [`~arr_trl.release.push_to_hub`]), never the whole folder; a push that fails is
      logged, and training goes on.

    """

    # What `args.resume_from_checkpoint` names, where a subclass looked for it before it loaded anything.
    _resumable: Path | None = None

    def __init__(self, *args, **kwargs):
        self.last_checkpoint: Path | None = None  # the one written last, or resumed from
        self._saved_step = 0
        self._losses_are_finite: torch.Tensor | None = None  # of the micro-steps since the last optimizer step
        self._step_began: tuple[int, dict] = (-1, {})  # an optimizer step, and the state in which it began
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
            `FloatingPointError`: when something is no finite number any more; a checkpoint of what was is written then.
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
        loss = super().training_step(*args, **kwargs)
        finite = loss.isfinite()  # looked at once for each optimizer step: asking a device makes it wait
        self._losses_are_finite = finite if self._losses_are_finite is None else self._losses_are_finite & finite
        return loss

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
        with suppress(FloatingPointError):  # what was trained is no number any more: the checkpoint before is the last
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

    def _get_grad_norm(self, *args, **kwargs):
        # the last thing before the optimizer's step; a scaler of float16 leaves out steps that overflow by itself
        grad_norm = super()._get_grad_norm(*args, **kwargs)
        finite, self._losses_are_finite = self._losses_are_finite, None
        if grad_norm is not None and self.accelerator.scaler is None:
            finite = torch.as_tensor(grad_norm).isfinite() & finite
        failure = None if finite.all() else not_finite("loss or gradient norm", self.state.global_step + 1)
        self._stop_together(failure, "A loss of another process is not finite.")
        return grad_norm

    def _check_weights(self) -> None:
        """Refuse to write weights that are not numbers, to a checkpoint or to the release."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        broken = any(not weight.isfinite().all() for weight in map(local_part, trained))
        if self._largest(int(broken)):
            raise not_finite("trained weights", self.state.global_step)

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
        self._check_weights()
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

    def create_optimizer(self, *args, **kwargs) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(*args, **kwargs)
        self._asked_for = [
            {"lr": group.get("initial_lr", group["lr"])} | {k: group[k] for k in _HYPERPARAMETERS if k in group}
            for group in optimizer.param_groups
        ]
        return optimizer

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        if self.accelerator.is_fsdp2:
            self._load_whole_optimizer(checkpoint)
        else:
            super()._load_optimizer_and_scheduler(checkpoint)
        take_hyperparameters(self.optimizer, self.lr_scheduler, self._asked_for)

    def _load_whole_optimizer(self, checkpoint: str) -> None:
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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter; with `push_to_hub`, also push the release."""
        if self._writing is None:
            self._check_weights()
        if not _internal_call:
            self._push.wait()  # it reads these files
        if self.is_fsdp_enabled:
            self._save(output_dir, state_dict=trainable_state_dict(self.model))
        else:
            super().save_model(output_dir, _internal_call=True)
        released = not _internal_call and output_dir in (None, self.args.output_dir)
        if self.args.push_to_hub and released and self.is_world_process_zero():
            self._push.attempt(self._write_card_and_push, "Model save")


def take_hyperparameters(
    optimizer: torch.optim.Optimizer, scheduler: LRScheduler, asked_for: list[dict[str, Any]]
) -> None:
    """
    Let a run that resumes have the settings of its own configuration, and of the optimizer's state what was estimated. A
    state brings along the learning rate, weight decay and the like that it was saved with, which would be used without
    a word; and its rate is that of the old schedule for a step more.

    Args:
        optimizer (`torch.optim.Optimizer`): the optimizer, its state loaded.
        scheduler (`torch.optim.lr_scheduler.LRScheduler`): its scheduler, its state loaded. One that follows what it
            measures, such as `ReduceLROnPlateau`, keeps the rate that it has found.
        asked_for (`list[dict]`): `lr` and other settings of each group, as they were before.
    """
    for group, asked in zip(optimizer.param_groups, asked_for, strict=True):
        group.update({name: value for name, value in asked.items() if name != "lr"})
    if not isinstance(scheduler, LambdaLR):
        return
    scheduler.base_lrs = [asked["lr"] for asked in asked_for]
    for group, rate, schedule in zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        group["initial_lr"], group["lr"] = rate, rate * schedule(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
