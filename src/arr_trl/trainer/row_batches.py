"""Batches of a dataset's rows, whole or streamed: the same global batch on any number of processes, and after a resume."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from datasets import IterableDataset
from torch.utils.data import DataLoader

from ..data import RepeatStream, RowError, read_rows
from .flow_config import FlowConfig


class RowBatches:
    """A part of trainers that take rows of their dataset, named before [`FlowTrainer`]."""

    args: FlowConfig

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._stream: RepeatStream | None = None

    def _rows_of_a_batch(self) -> int:
        """Rows of a batch on one device."""
        raise NotImplementedError

    def _stream_of(self, dataset: IterableDataset) -> RepeatStream:
        """The batches of all processes, where the dataset is a stream."""
        raise NotImplementedError

    def _place_in_stream(self) -> int:
        """How far training has come, as the stream counts it."""
        raise NotImplementedError

    def get_train_dataloader(self) -> DataLoader:
        if self._streams():
            dataset = self._stream = self._stream_of(self.train_dataset)
            if self.last_checkpoint is not None:
                self._stream.load_state_dict(self._load_process_state(self.last_checkpoint)["stream"])
        else:  # places, so that a row is read and a picture decoded here, once, and a broken one is a sentence
            dataset = range(len(self.train_dataset))
        return self._get_dataloader(
            dataset=dataset,
            description="Training",
            batch_size=self._rows_of_a_batch(),
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def _rows_of(self, batch: list[int] | list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows that a batch stands for, as they are stored."""
        return batch if self._streams() else read_rows(self.train_dataset, batch)

    @contextmanager
    def _used_together(self) -> Iterator[None]:
        """In which rows are read and made ready; where one cannot be used, all processes stop."""
        failure = None
        try:
            yield
        except ValueError as error:
            failure = RowError(str(error))
        except Exception as error:  # whatever disks, networks and encoders raise: the others wait for an answer
            failure = error
        self._stop_together(failure, "A row of another process cannot be used.")

    def _process_state(self) -> dict[str, Any]:
        stream = None if self._stream is None else self._stream.state_dict(self._place_in_stream())
        return super()._process_state() | {"stream": stream}
