"""One real question to a judge before a run, about two flat pictures: whether its reply can be read is known at once."""

import logging

from datasets import Dataset, IterableDataset

from ..data import SOURCE_COLUMN, stored_first_row
from ..judges import JudgeReward, JudgeRow
from ..judges.rehearsal import Rehearsal, flat_pictures
from .flow_config import FlowConfig


logger = logging.getLogger(__name__)
_ASKED = "Asked one question, about two flat pictures as the run will ask about its own,"


def check_rehearsal(
    judge: JudgeReward, args: FlowConfig, dataset: Dataset | IterableDataset, num_sources: int
) -> None:
    """
    Refuse a judge whose reply cannot be read; warn of it where it may not stop a run.

    Raises:
        `ValueError`: with what it said.
    """
    for said in rehearse(judge, dataset, args.height, args.width, num_sources):
        if said.failure is None:
            logger.info("%s %s", _ASKED, said)
        elif judge.may_stop:
            raise ValueError(
                f"{_ASKED} {said} Repair the judge or its settings; `rehearse_judge=False` begins without asking."
            )
        else:
            logger.warning("%s %s", _ASKED, said)


def rehearse(
    judge: JudgeReward, dataset: Dataset | IterableDataset, height: int, width: int, num_sources: int
) -> list[Rehearsal]:
    """
    Ask about two flat pictures, for the first prompt of a dataset.

    Args:
        judge ([`JudgeReward`]): who is asked.
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): rows, their sources not decoded.
        height (`int`): of the pictures in pixels.
        width (`int`): of the pictures in pixels.
        num_sources (`int`): pictures that are edited; flat ones stand for them.

    Returns:
        `list[Rehearsal]`: what came of it, for each chat model that was asked.
    """
    row = stored_first_row(dataset)  # as judges get rows in training
    pictures = flat_pictures(height, width)
    source = None if num_sources == 0 else pictures[0] if num_sources == 1 else [pictures[0]] * num_sources
    columns = {name: value for name, value in row.items() if name not in ("prompt", SOURCE_COLUMN)}
    return judge.rehearse(JudgeRow(row["prompt"], pictures, source, columns=columns))
