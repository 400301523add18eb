"""Batches of prompts, and what all who draw pictures of them measure of those."""

from typing import Any

import numpy as np
from accelerate.utils import gather_object
from datasets import Dataset
from PIL import Image
from torch.utils.data import DataLoader, Sampler

from ..data import RepeatSampler, RepeatStream, RowError, decode_sources, read_rows
from ..evaluation.picture_statistics import color_histogram, histogram_distance, picture_statistics
from .flow_config import FlowConfig
from .hacking import FEW_PICTURES


class PromptBatches:
    """
    A part of trainers whose batches are prompts that pictures are drawn of, named before [`FlowTrainer`]. The same global
    batch comes on any number of processes, and after a resume.
    """

    args: FlowConfig

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._stream: RepeatStream | None = None
        self._first_colors: list[float] = [0.0]  # of the first pictures

    def _prompts_of_a_batch(self) -> tuple[int, int]:
        """Prompts of a batch on one device, and how many micro-steps get the same."""
        raise NotImplementedError

    def _batches_taken(self) -> int:
        """Batches that are done with."""
        raise NotImplementedError

    def get_train_dataloader(self) -> DataLoader:
        # places: of all micro-steps that get the same prompts, one reads the rows
        dataset = self.train_dataset if self._streams() else range(len(self.train_dataset))
        prompts, repeats = self._prompts_of_a_batch()
        if self._streams():
            dataset = self._stream = RepeatStream(
                dataset,
                self._global_prompts(),
                repeats,
                self.args.shuffle_dataset,
                self.args.prompt_seed,
                self.args.shuffle_buffer_size,
            )
            if self.last_checkpoint is not None:
                self._stream.load_state_dict(self._load_process_state(self.last_checkpoint)["stream"])
        return self._get_dataloader(
            dataset=dataset,
            description="Training",
            batch_size=prompts,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        dataset = self.train_dataset if dataset is None else dataset
        return RepeatSampler(
            len(dataset),
            self._global_prompts(),
            self._prompts_of_a_batch()[1],
            self.args.shuffle_dataset,
            self.args.prompt_seed,
        )

    def _global_prompts(self) -> int:
        return self._prompts_of_a_batch()[0] * self.accelerator.num_processes

    def _usable(
        self, batch: list[int] | list[dict[str, Any]], encoded_together: int | None = None
    ) -> list[dict[str, Any]]:
        """
        The rows of a batch with their sources decoded, once it is known that all of them can be encoded, all at once or
        so many at a time.
        """
        rows, failure = [], None
        try:
            rows = decode_sources(batch if self._streams() else read_rows(self.train_dataset, batch))
            chunk = encoded_together or len(rows)
            for start in range(0, len(rows), chunk):  # kept, so that sampling finds it done
                self.policy.encode(rows[start : start + chunk], self.args.height, self.args.width)
        except ValueError as error:
            failure = RowError(str(error))
        except Exception as error:  # whatever disks, networks and encoders raise: the others wait for an answer
            failure = error
        self._stop_together(failure, "A row of another process cannot be used.")
        return rows

    def _watch_pictures(self, images: list[Image.Image]) -> None:
        """Measure how pictures change, whatever they show. Called by all processes."""
        metrics = self._metrics["train"]
        for name, values in picture_statistics(images).items():
            metrics[f"pictures/{name}"] += values
        colors = sum(gather_object([color_histogram(images)]))
        if sum(self._first_colors) < FEW_PICTURES:
            self._first_colors = np.add(self._first_colors, colors).tolist()
        metrics["pictures/histogram_distance"].append(histogram_distance(self._first_colors, colors))

    def _owner_state(self) -> dict[str, Any]:
        return super()._owner_state() | {"first_colors": self._first_colors}

    def _restore_owner_state(self, state: dict[str, Any]) -> None:
        super()._restore_owner_state(state)
        self._first_colors = state.get("first_colors", [0.0])  # older checkpoints have none

    def _process_state(self) -> dict[str, Any]:
        stream = None if self._stream is None else self._stream.state_dict(self._batches_taken())
        return super()._process_state() | {"stream": stream}
