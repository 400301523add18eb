"""A flow-matching pipeline of diffusers seen as a policy that can be sampled, scored and trained."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from PIL import Image


# Batch-first tensors that the transformer needs beside latents and noise level.
Conditioning = dict[str, torch.Tensor]


class FlowPolicy(ABC):
    """
    What the trainer asks of a pipeline. One subclass per model family; everything model-specific lives there.

    The network is passed to [`~FlowPolicy.velocity`] rather than taken from the pipeline, so that a DDP- or
    DeepSpeed-wrapped model is what runs.

    Args:
        pipeline ([`~diffusers.DiffusionPipeline`]):
            The pipeline. Its scheduler configuration, encoders and autoencoder are used as they are.
        max_cached_prompts (`int`, *optional*, defaults to `1024`):
            How many encoded prompts are kept in memory; the least recently used are dropped first.
    """

    pipeline_class: ClassVar[type[DiffusionPipeline]]
    # LoRA targets used when the user gives none: those of the published adapter of this family.
    target_modules: ClassVar[tuple[str, ...]]

    def __init__(self, pipeline: DiffusionPipeline, max_cached_prompts: int = 1024):
        self.pipeline = pipeline
        self.max_cached_prompts = max_cached_prompts
        # read before LoRA adds float32 parameters to a bfloat16 network
        self.dtype = pipeline.transformer.dtype
        self._cache: OrderedDict[Any, Conditioning] = OrderedDict()

    @property
    def size_multiple(self) -> int:
        """Pixels that `height` and `width` must be multiples of."""
        return self.size_multiple_of(self.pipeline.vae.config)

    @staticmethod
    @abstractmethod
    def size_multiple_of(vae_config: Mapping[str, Any]) -> int:
        """[`~FlowPolicy.size_multiple`] from the configuration of the autoencoder alone."""

    @abstractmethod
    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        """Encode dataset rows (at least a `prompt`), without gradient: batch-first tensors of `len(rows)` rows."""

    @abstractmethod
    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        """The noise levels `[T + 1]` that the pipeline's own scheduler would use, from 1 down to 0, float32."""

    @abstractmethod
    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        """Packed noise `[B, L, C]` in float32, drawn as the pipeline draws it."""

    @abstractmethod
    def velocity(
        self,
        model: torch.nn.Module,
        latents: torch.Tensor,
        sigma: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        """
        The velocity `ε - x0` that `model` predicts, with the family's guidance included.

        Args:
            model (`torch.nn.Module`): the transformer, wrapped or not.
            latents (`torch.Tensor`): `[B, L, C]`, float32.
            sigma (`torch.Tensor`): `[B]` in [0, 1]; may differ per row.
            conditioning (`dict[str, torch.Tensor]`): `B` rows of what [`~FlowPolicy.encode`] returned.
            guidance_scale (`float`): as in the pipeline's `__call__`.

        Returns:
            `torch.Tensor`: `[B, L, C]`, float32.
        """

    @abstractmethod
    def decode(self, latents: torch.Tensor, height: int, width: int) -> list[Image.Image]:
        """Pictures of packed latents `[B, L, C]`."""

    @classmethod
    def check_size(cls, height: int, width: int, multiple: int) -> None:
        """
        Raises:
            `ValueError`: when the pipeline cannot make pictures of this size.
        """
        for name, value in (("height", height), ("width", width)):
            if value < multiple or value % multiple:
                below = max(value, 0) // multiple * multiple
                options = f"{below} or {below + multiple}" if below else f"{multiple}"
                raise ValueError(
                    f"{name}={value} does not divide by {multiple}, the latent patch of "
                    f"{cls.pipeline_class.__name__}; use {options}."
                )

    @torch.no_grad()
    def encode(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        """
        Conditioning of dataset rows, each distinct row encoded once and kept.

        Args:
            rows (`list[dict]`): dataset rows; which columns are read is the family's matter, `prompt` always.
            height (`int`): picture height in pixels.
            width (`int`): picture width in pixels.

        Returns:
            `dict[str, torch.Tensor]`: batch-first tensors of `len(rows)` rows, on the pipeline's device.
        """
        keys = [(self.cache_key(row), height, width) for row in rows]
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._cache}
        if missing:
            encoded = self.encode_rows(list(missing.values()), height, width)
            for i, key in enumerate(missing):
                self._cache[key] = {name: tensor[i] for name, tensor in encoded.items()}
        found = []
        for key in keys:
            self._cache.move_to_end(key)
            found.append(self._cache[key])
        batch = {name: torch.stack([row[name] for row in found]) for name in found[0]}
        while len(self._cache) > self.max_cached_prompts:
            self._cache.popitem(last=False)
        return batch

    @property
    def call_kwargs(self) -> dict[str, Any]:
        """Arguments that the pipeline's own `__call__` needs to make the pictures that this policy makes."""
        return {}

    def cache_key(self, row: dict[str, Any]) -> Any:
        """What makes two rows encode alike."""
        return row["prompt"]

    def to(self, device: torch.device | str) -> "FlowPolicy":
        """Move the frozen parts and the transformer to `device`; encoded prompts are forgotten."""
        self.pipeline.to(device)
        self._cache.clear()
        return self

    @property
    def device(self) -> torch.device:
        return self.pipeline.transformer.device
