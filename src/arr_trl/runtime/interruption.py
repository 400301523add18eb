"""Pre-emption and Ctrl-C: the step is finished, a checkpoint written, and the process ends with the signal's status."""

import os
import signal
import threading
from collections.abc import Callable

from transformers import TrainerCallback

from ..signals import take_signals


class TrainingInterrupted(SystemExit):
    """
    Training was ended by a signal after a checkpoint. Left alone it ends the process: 143 for SIGTERM, 130 for SIGINT.

    Args:
        number (`int`): the signal.
        message (`str`): what was done and how to go on.
    """

    def __init__(self, number: int, message: str):
        super().__init__(128 + number)
        self.message = message

    def __str__(self) -> str:
        return self.message


class InterruptionCallback(TrainerCallback):
    """
    Ends training at the next optimizer step once SIGTERM or SIGINT has come to any process. A second signal acts at
    once. A signal that the program handles itself is left to it. `updating` tells whether an optimizer step has begun and
    not ended.

    Args:
        agree (`Callable[[int], int]`): the largest of the numbers that all processes pass, 0 for no signal.
    """

    def __init__(self, agree: Callable[[int], int]):
        self.agree = agree
        self.number = 0
        self.updating = False
        self._give_back: Callable[[], None] | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.number, self.updating = 0, False
        if threading.current_thread() is threading.main_thread():
            self._give_back = take_signals(self._receive)

    def _receive(self, number: int, frame) -> None:
        if self.number:
            self.restore()
            signal.raise_signal(number)
            return
        self.number = number
        # not `print`, which may be what was interrupted
        name = signal.Signals(number).name
        os.write(2, f"\n{name}: finishing this step and writing a checkpoint; once more to stop at once.\n".encode())

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.updating = True

    def on_step_end(self, args, state, control, **kwargs):
        self.updating = False
        self.number = self.agree(self.number)
        if self.number:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def restore(self) -> None:
        """Give the signals back."""
        if self._give_back is not None:
            self._give_back()
