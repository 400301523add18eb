"""Warnings in words: in the log, and where a run reports to trackio as alerts, which its dashboard and webhooks show."""

import io
import logging
from collections.abc import Mapping
from contextlib import redirect_stdout

from transformers import TrainerState, TrainingArguments


logger = logging.getLogger(__name__)


def warn_once(
    already: dict[str, str], found: Mapping[str, str | None], args: TrainingArguments, state: TrainerState
) -> None:
    """
    Warn of what was not warned of before.

    Args:
        already (`dict[str, str]`): sentences that were told, by kind; what is told now is added.
        found (`Mapping[str, str | None]`): sentences by kind, `None` where all is well.
        args ([`~transformers.TrainingArguments`]): the configuration.
        state ([`~transformers.TrainerState`]): of the run, whose step is told.
    """
    for kind, sentence in found.items():
        if sentence is not None and kind not in already:
            already[kind] = sentence
            warn(kind, sentence, args, state.global_step)


def warn(kind: str, sentence: str, args: TrainingArguments, step: int) -> None:
    """
    Tell a sentence. Called by the process that logs, while the run's trackers are open.

    Args:
        kind (`str`): what it is about, in a word or two: the title of the alert.
        sentence (`str`): what was seen, what it means, what to try.
        args ([`~transformers.TrainingArguments`]): the configuration, which says where the run reports to.
        step (`int`): the optimizer step.
    """
    logger.warning("Step %d: %s", step, sentence)
    if "trackio" in args.report_to:
        import trackio

        with redirect_stdout(io.StringIO()):  # the alert is printed too, and stands on the screen already
            trackio.alert(title=kind, text=f"Step {step}: {sentence}", level=trackio.AlertLevel.WARN)
