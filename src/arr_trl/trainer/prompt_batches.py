"""Batches of prompts, and what all who draw pictures of them measure of those."""

from typing import Any

import numpy as np
from accelerate.utils import gather_object
from datasets import Dataset, IterableDataset
from PIL import Image
from torch.utils.data import Sampler

from ..data import RepeatSampler, RepeatStream, Size, decode_sources
from ..evaluation.picture_statistics import color_histogram, histogram_distance, picture_statistics
from .hacking import FEW_PICTURES
from .row_batches import RowBatches


class PromptBatches(RowBatches):
    """A part of trainers whose batches are prompts that pictures are drawn of, named before [`FlowTrainer`]."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._first_colors: list[float] = [0.0]  # of the first pictures

    def _prompts_of_a_batch(self) -> tuple[int, int]:
        """Prompts of a batch on one device, and how many micro-steps get the same."""
        raise NotImplementedError

    def _batches_taken(self) -> int:
        """Batches that are done with."""
        raise NotImplementedError

    def _rows_of_a_batch(self) -> int:
        return self._prompts_of_a_batch()[0]

    def _place_in_stream(self) -> int:
        return self._batches_taken()

    def _stream_of(self, dataset: IterableDataset) -> RepeatStream:
        args, repeats = self.args, self._prompts_of_a_batch()[1]
        return RepeatStream(
            dataset,
            self._global_prompts(),
            repeats,
            args.shuffle_dataset,
            args.prompt_seed,
            args.shuffle_buffer_size,
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

    def _usable(self, batch: list[int] | list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows of a batch with their sources decoded, once it is known that all of them can be encoded."""
        rows: list[dict[str, Any]] = []
        with self._used_together():
            rows = decode_sources(self._rows_of(batch))
            sizes = self._sizes_of(rows)
            for size in set(sizes):
                self._check_size(*size)
            # all at once: encoders that are offloaded come to the device once. It is kept, so that sampling finds it done
            self.policy.encode_ahead(rows, sizes)
        return rows

    def _sizes_of(self, rows: list[dict[str, Any]]) -> list[Size]:
        """Height and width at which pictures of each row are drawn."""
        return self.policy.sizes_of(rows, self.args.height, self.args.width, self.args.size_from_source)

    def _described_sizes(self) -> list[tuple[str, str]]:
        """A line for [`~FlowTrainer.batch_arithmetic`] where pictures have several sizes."""
        args, told = self.args, []
        if args.size_from_source and self.policy.edits(self._card_row):
            told.append(f"edits in the aspect ratio of their source, about {args.height} × {args.width} pixels")
        if self._row_sizes:
            told.append("rows that have a height and a width at these")
        return [("sizes", "; ".join(told))] if told else []

    def _check_size(self, height: int, width: int) -> None:
        """Refuse a size, by a `ValueError`, that pictures cannot be trained on at; called before they are drawn."""

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
