"""
Prompts that are read as they are needed: one endless stream that every rank reads alike, and whose position a
checkpoint can hold.

`datasets` would give each rank and each worker files of its own, so that what is trained on depends on how many of each
there are, and a rollout's prompts, which come again for all of its micro-steps, get mixed up with those of the next.
"""

import copy
import hashlib
import logging
import os
import random
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import datasets
from torch.utils.data import IterableDataset, get_worker_info

from .images import undecoded
from .prompts import is_prompt


logger = logging.getLogger(__name__)

Row = dict[str, Any]


class StreamError(RuntimeError):
    """The stream of prompts cannot be read further."""


@dataclass(frozen=True)
class Position:
    """
    Where a row comes from.

    Args:
        epoch (`int`): how often the stream had been read to its end.
        block (`int`): number of the block within the epoch.
        row (`int`): index within the shuffled block.
        state (`dict`, *optional*): `state_dict` of the stream before the block was read; `None` at its beginning.
    """

    epoch: int = 0
    block: int = 0
    row: int = 0
    state: dict | None = None


class RepeatStream(IterableDataset):
    """
    Rows in chunks of one rollout, each chunk `repeat_count` times; see [`RepeatSampler`] for why. Every row comes once
    an epoch, and a rollout may hold the last rows of one epoch and the first of the next.

    Every rank reads the whole stream and accelerate slices it. So does every worker, which hands on its share of the
    batches: prompts are small, and pictures are handed on as they are stored, since most batches are not looked at.

    The stream is a copy of `rows`, so that whoever reads those does not move its position.

    Args:
        rows (`datasets.IterableDataset`): the rows.
        chunk_size (`int`): prompts of one rollout, over all ranks.
        repeat_count (`int`): micro-steps per rollout.
        shuffle (`bool`): shuffle rows within blocks, and read the stream's files in a new order each epoch.
        seed (`int`): seed of that order.
        block_size (`int`): rows read and shuffled at a time.
    """

    # for the sentence that there are too few of them
    rows_are, chunks_are, batches_are = "prompts", "rollout", "steps_per_generation"

    def __init__(
        self,
        rows: datasets.IterableDataset,
        chunk_size: int,
        repeat_count: int,
        shuffle: bool,
        seed: int,
        block_size: int,
    ):
        self.rows = copy.deepcopy(undecoded(rows))
        self.chunk_size = chunk_size
        self.repeat_count = repeat_count
        self.shuffle = shuffle
        self.seed = seed
        self.block_size = block_size
        self._start: dict[str, Any] | None = None
        self._chunk_states: dict[int, dict[str, Any]] = {}

    def __iter__(self) -> Iterator[Row]:
        worker = get_worker_info()
        first = 0 if self._start is None else self._start["chunk"]
        # stand-ins for what a resumed run skips: Trainer counts them off, and nothing is read for them
        for batch in range(first * self.repeat_count):
            if worker is None or batch % worker.num_workers == worker.id:
                yield from self._batch([{"prompt": ""}] * self.chunk_size, batch)
        for number, (position, chunk) in enumerate(self._resumed_chunks(), first):
            if worker is None:
                self._chunk_states[number] = {
                    "chunk": number,
                    "position": asdict(position),
                    "fingerprint": _fingerprint(chunk),
                }
            for batch in range(number * self.repeat_count, (number + 1) * self.repeat_count):
                # torch takes batches from its workers in turn
                if worker is None or batch % worker.num_workers == worker.id:
                    yield from self._batch(chunk, batch)

    def _batch(self, chunk: list[Row], number: int) -> list[Row]:
        """The rows of a chunk that come in the batch with this number."""
        return chunk

    def state_dict(self, chunk: int) -> dict[str, Any] | None:
        """
        Where the rollout number `chunk` begins, for [`~RepeatStream.load_state_dict`]. `None` when workers read the
        stream: it is then read again from its beginning, and the rows that had been used are skipped.
        """
        self._chunk_states = {number: state for number, state in self._chunk_states.items() if number >= chunk}
        return self._chunk_states.get(chunk)

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Begin at the rollout that `state` was taken for; the batches before it come as stand-ins."""
        self._start = state

    def _resumed_chunks(self) -> Iterator[tuple[Position, list[Row]]]:
        if self._start is None:
            yield from self._chunks(Position())
            return
        number, expected = self._start["chunk"], self._start["fingerprint"]
        chunks = self._chunks(Position(**self._start["position"]))
        try:
            chunk = next(chunks)
            restored = _fingerprint(chunk[1]) == expected
        except StreamError:
            restored = False
        if not restored:
            # datasets cannot restore the buffer of a stream that was shuffled before it came here
            logger.warning(
                "The stream of prompts cannot go on from its saved position; reading it from the beginning."
            )
            chunks = self._chunks(Position())
            for _ in range(number + 1):
                chunk = next(chunks)
            if _fingerprint(chunk[1]) != expected:
                logger.warning("The prompts have changed since the checkpoint was written: the run will differ.")
        yield chunk
        yield from chunks

    def _chunks(self, position: Position) -> Iterator[tuple[Position, list[Row]]]:
        chunk, begin = [], position
        for at, row in self._rows(position):
            if not chunk:
                begin = at
            chunk.append(row)
            if len(chunk) == self.chunk_size:
                yield begin, chunk
                chunk = []

    def _rows(self, position: Position) -> Iterator[tuple[Position, Row]]:
        # `datasets` keeps the epoch in memory that all workers share: one that is ahead would change the order of files
        # under the others (datasets 5.2)
        rows = self.rows if get_worker_info() is None else copy.deepcopy(self.rows)
        while True:
            count = 0
            for at, block in self._blocks(rows, position):
                for i in range(at.row, len(block)):
                    yield replace(at, row=i), block[i]
                count += len(block)
            if position.block == 0 and count < self.chunk_size:
                raise StreamError(
                    f"The stream holds {count} {self.rows_are}, and one {self.chunks_are} takes {self.chunk_size}; add "
                    f"{self.rows_are} or lower per_device_train_batch_size × {self.batches_are}."
                )
            position = Position(epoch=position.epoch + 1)

    def _blocks(self, rows: datasets.IterableDataset, position: Position) -> Iterator[tuple[Position, list[Row]]]:
        """The blocks of one epoch from `position` on."""
        if self.shuffle:
            rows.set_epoch(self.seed + position.epoch + 1)  # datasets orders the files by it, unless it is 0
        rows.load_state_dict(position.state)
        # Not `iter(rows)`, which would give each worker some of the files.
        batches = rows.iter(batch_size=self.block_size)
        while (columns := self._read(batches, position)) is not None:
            names = list(columns)
            block = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
            if self.shuffle:
                # a function of its place alone, so that a resumed run sees the same order
                random.Random(f"{self.seed} {position.epoch} {position.block}").shuffle(block)
            usable = [row for row in block if is_prompt(row.get("prompt"))]
            if len(usable) < len(block):
                logger.warning(
                    "%d rows of the stream have no text as `prompt` and are left out.", len(block) - len(usable)
                )
            yield position, usable
            position = Position(position.epoch, position.block + 1, 0, rows.state_dict())

    def _read(self, batches: Iterator[dict[str, list]], position: Position) -> dict[str, list] | None:
        try:
            return next(batches, None)
        except Exception as error:  # whatever the network, the file system and the parsers of `datasets` raise
            file = _file_of(error)
            raise StreamError(
                f"The prompts cannot be read further than block {position.block} of epoch {position.epoch} "
                f"({self.block_size} rows each){f', in {file}' if file else ''}: {type(error).__name__}: {error}"
            ) from error


class PartStream(RepeatStream):
    """
    The rows of an optimizer step in a chunk, of which each of its `repeat_count` micro-steps gets its part: for trainers
    that take a row once.
    """

    rows_are, chunks_are, batches_are = "pairs", "optimizer step", "gradient_accumulation_steps"

    def _batch(self, chunk: list[Row], number: int) -> list[Row]:
        size = self.chunk_size // self.repeat_count
        start = number % self.repeat_count * size
        return chunk[start : start + size]


def _file_of(error: Exception) -> str | None:
    """The file that a reader of `datasets` was at, which it tells its log alone (datasets 5.2)."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    files = [
        frame.f_locals.get("file") or frame.f_locals.get("file_path")
        for frame in frames
        if str(frame.f_globals.get("__name__")).startswith("datasets.packaged_modules.")
    ]
    return next((str(file) for file in files if isinstance(file, str | os.PathLike)), None)


def _fingerprint(chunk: list[Row]) -> str:
    return hashlib.sha256("\0".join(row["prompt"] for row in chunk).encode()).hexdigest()
