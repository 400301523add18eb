"""
Hands the trainer the prompts of one rollout once for every micro-step that trains on it.

Trainer asks its dataloader for a batch at each micro-step, while a rollout lasts for many of them. So the prompts of a
rollout come again that many times in a row, on all ranks together, before the next ones do. Only the first is used: so
what comes are places in a dataset, and rows of a stream with everything as it is stored.
"""

from collections.abc import Iterator
from itertools import chain, count, islice

import torch
from torch.utils.data import Sampler


class RepeatSampler(Sampler[int]):
    """
    Indices of a map-style dataset in chunks of one rollout, each chunk `repeat_count` times.

    No row comes a second time before all have come once. An epoch is as many whole chunks as the rows fill; rows that
    are left over come first in the next one, before the rows are shuffled again.

    Args:
        num_rows (`int`): rows in the dataset.
        chunk_size (`int`): prompts of one rollout, over all ranks.
        repeat_count (`int`): micro-steps per rollout.
        shuffle (`bool`): draw a new order each time that all rows have come.
        seed (`int`): seed of that order.
    """

    def __init__(self, num_rows: int, chunk_size: int, repeat_count: int, shuffle: bool, seed: int):
        self.num_rows = num_rows
        self.chunk_size = chunk_size
        self.repeat_count = repeat_count
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        chunks = self.num_rows // self.chunk_size
        passes, begun = divmod(self.epoch * chunks * self.chunk_size, self.num_rows)
        rows = islice(chain.from_iterable(map(self._order, count(passes))), begun, None)
        for _ in range(chunks):
            chunk = list(islice(rows, self.chunk_size))
            for _ in range(self.repeat_count):
                yield from chunk

    def _order(self, number: int) -> list[int]:
        """The rows in the order of pass `number`: a function of it and the seed, so that a resumed run sees the same."""
        if not self.shuffle:
            return list(range(self.num_rows))
        return torch.randperm(self.num_rows, generator=torch.Generator().manual_seed(self.seed + number)).tolist()

    def __len__(self) -> int:
        return self.num_rows // self.chunk_size * self.chunk_size * self.repeat_count
