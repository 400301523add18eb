"""
Hands the trainer the prompts of one rollout once for every micro-step that trains on it.

Trainer asks its dataloader for a batch at each micro-step, while a rollout lasts for many of them. So the prompts of a
rollout come again that many times in a row, on all ranks together, before the next ones do. Only the first is used.
"""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class RepeatSampler(Sampler[int]):
    """
    Indices of a map-style dataset in chunks of one rollout, each chunk `repeat_count` times.

    Args:
        num_rows (`int`): rows in the dataset.
        chunk_size (`int`): prompts of one rollout, over all ranks. Rows that fill no chunk wait for the next epoch.
        repeat_count (`int`): micro-steps per rollout.
        shuffle (`bool`): draw a new order each epoch.
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
        order = list(range(self.num_rows))
        if self.shuffle:
            # a function of seed and epoch alone, so that a resumed run sees the same order
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(self.num_rows, generator=generator).tolist()
        for start in range(0, self.num_rows - self.chunk_size + 1, self.chunk_size):
            for _ in range(self.repeat_count):
                yield from order[start : start + self.chunk_size]

    def __len__(self) -> int:
        return self.num_rows // self.chunk_size * self.chunk_size * self.repeat_count
