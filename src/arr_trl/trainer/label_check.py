"""Whether a judge would have labelled the pairs as they are, asked before anything is trained on them."""

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

from datasets import Dataset, IterableDataset

from ..data import SOURCE_COLUMN, load_image, read_rows, undecoded
from ..intervals import wilson_interval
from ..judges import JudgeReward, JudgeRow


logger = logging.getLogger(__name__)


def check_labels(judge: JudgeReward, dataset: Dataset | IterableDataset, count: int) -> tuple[int, int]:
    """
    Ask a judge about some pairs, evenly from all of a dataset or the first of a stream, half of them with the preferred
    picture first, and warn when it disagrees with the labels more often than chance would have it: the sides may be swapped.
    What the base finds likely says nothing about that.

    Args:
        judge ([`JudgeReward`]): the judge.
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): pairs or rankings.
        count (`int`): how many to ask about.

    Returns:
        `tuple(int, int)`: in how many the judge agrees, of how many that it decided.
    """
    labelled = list(_labelled(dataset, count))
    agrees, decided = 0, 0
    verdicts = judge.compare([row for row, _ in labelled])
    for verdict, (_, best) in zip(verdicts, labelled, strict=True):
        if verdict.winner is not None and verdict.failure is None:
            decided += 1
            agrees += verdict.winner == best
    if decided == 0:
        logger.warning(
            "The judge decided none of the %d pairs that it was asked about before training.", len(labelled)
        )
        return agrees, decided
    low, high = wilson_interval(agrees / decided, decided)
    found = f"agrees with {agrees} of the {decided} labels that it decided, of {len(labelled)} (95% interval {low:.0%} to {high:.0%})"
    if high < 0.5:
        logger.warning(
            "The judge %s: the sides of the data may be swapped, or the judge reads its rubric the wrong way round. Look at some "
            "pairs before this run teaches the opposite.",
            found,
        )
    elif low <= 0.5:
        logger.warning("The judge %s, no more than chance: the labels, or the judge, say something else.", found)
    else:
        logger.info("The judge %s.", found)
    return agrees, decided


def _labelled(dataset: Dataset | IterableDataset, count: int) -> Iterator[tuple[JudgeRow, int]]:
    """Pairs for a judge, and the place of the preferred picture."""
    if isinstance(dataset, Dataset):
        count = min(count, len(dataset))
        rows = read_rows(dataset, [i * len(dataset) // count for i in range(count)])
    else:
        rows = list(islice(undecoded(dataset), count))
    for number, row in enumerate(rows):
        best, worst = _ends(row)
        pictures = (load_image(best), load_image(worst))
        source = row.get(SOURCE_COLUMN)
        turned = number % 2
        shown = pictures[::-1] if turned else pictures
        source = None if source is None else load_image(source)
        yield JudgeRow(row["prompt"], shown, source, columns=row), turned


def _ends(row: dict[str, Any]) -> tuple[Any, Any]:
    """The preferred picture and the other one, or the best and the worst of a ranking, as they are stored."""
    if row.get("chosen") is not None:
        return row["chosen"], row["rejected"]
    worth = row["scores"] if row.get("scores") is not None else [-rank for rank in row["label_rank"]]
    order = sorted(range(len(worth)), key=lambda i: -worth[i])
    return row["images"][order[0]], row["images"][order[-1]]
