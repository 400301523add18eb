"""FLUX.1-Kontext: `FluxKontextPipeline` as a policy."""

from typing import Any

import torch
from diffusers import FluxKontextPipeline
from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

from .batching import Conditioning, concatenate, in_groups
from .flux import FluxPolicy
from .sources import single_source


class FluxKontextPolicy(FluxPolicy):
    """
    FLUX.1-Kontext-dev: FLUX.1 whose transformer gets the source's latents behind those of the picture.

    A source is resized to the nearest of Kontext's own resolutions, about a megapixel, so rows of one batch may have
    source latents of different shapes; such rows go through the transformer one shape at a time.

    Args:
        pipeline ([`~diffusers.FluxKontextPipeline`]):
            The pipeline.
        max_sequence_length (`int`, *optional*, defaults to `512`):
            T5 tokens per prompt, as in `FluxKontextPipeline.__call__`.
        condition_size (`int`, *optional*, defaults to `1024`):
            Side, in pixels, of the square whose area the source is resized to. With anything but 1024, Kontext's
            resolutions are scaled, and the pipeline draws the same after the code of `call_setup`.
        max_cached_prompts (`int`, *optional*, defaults to `128`):
            How many encoded rows are kept in memory, with the latents of their sources.
    """

    pipeline_class = FluxKontextPipeline
    default_guidance_scale = 2.5
    default_num_inference_steps = 28
    editing = True

    def __init__(
        self,
        pipeline: FluxKontextPipeline,
        max_sequence_length: int = 512,
        condition_size: int = 1024,
        max_cached_prompts: int = 128,
    ):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        if condition_size < 64:
            raise ValueError(f"condition_size={condition_size} is less than 64 pixels, too small for a source.")
        self.condition_size = condition_size

    def call_kwargs(self, height: int, width: int) -> dict[str, Any]:
        # whatever size it is given, the pipeline draws pictures of `max_area`
        return super().call_kwargs(height, width) | {"max_area": height * width}

    def call_setup(self) -> str:
        if self.condition_size == 1024:
            return ""
        side = self.condition_size
        return (
            f"# Sources had the area of {side} × {side} pixels in training; the pipeline's call would give them 1024 × 1024.\n"
            "from diffusers.pipelines.flux import pipeline_flux_kontext as own\n"
            f"own_sizes = [(w * {side} // 1024, h * {side} // 1024) for w, h in own.PREFERRED_KONTEXT_RESOLUTIONS]\n"
            "own.PREFERRED_KONTEXT_RESOLUTIONS = own_sizes"
        )

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        prompts = super().encode_rows(rows, height, width)
        image_ids = prompts.pop("image_ids")[:1]
        return prompts | concatenate([self._encode_source(row, image_ids, height, width) for row in rows])

    def _encode_source(self, row: dict[str, Any], image_ids: torch.Tensor, height: int, width: int) -> Conditioning:
        image = single_source(row, self.pipeline_class.__name__)
        processor, multiple = self.pipeline.image_processor, self.size_multiple
        own_height, own_width = processor.get_default_height_width(image)
        # scaled before the nearest is chosen, as the pipeline does after the code of `call_setup`
        sizes = [[side * self.condition_size // 1024 for side in size] for size in PREFERRED_KONTEXT_RESOLUTIONS]
        _, *size = min((abs(own_width / own_height - w / h), w, h) for w, h in sizes)
        size = [side // multiple * multiple for side in reversed(size)]
        _, latents, _, source_ids = self.pipeline.prepare_latents(
            processor.preprocess(processor.resize(image, *size), *size),
            1,
            self._num_channels,
            height,
            width,
            self.dtype,
            self.device,
            None,
            torch.empty(0),  # instead of noise, which would move the global random state
        )
        return {
            "source_latents": latents,
            "image_ids": torch.cat([image_ids, source_ids[None]], 1),
            "source_size": torch.tensor([size]) // multiple,
        }

    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        latents, *_ = self.pipeline.prepare_latents(
            None, batch, self._num_channels, height, width, torch.float32, self.device, generator
        )
        return latents

    def velocity(
        self,
        model: torch.nn.Module,
        latents: torch.Tensor,
        sigma: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        def of_one_shape(latents: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
            # other rows may have larger sources, and this one padding
            num_tokens = int(conditioning["source_size"][0].prod())
            both = torch.cat([latents, conditioning["source_latents"][:, :num_tokens].to(latents.dtype)], 1)
            conditioning = conditioning | {"image_ids": conditioning["image_ids"][:, : both.shape[1]]}
            velocity = super(FluxKontextPolicy, self).velocity(model, both, sigma, conditioning, guidance_scale)
            return velocity[:, : latents.shape[1]]

        return in_groups(of_one_shape, model, conditioning["source_size"], latents, sigma, conditioning)
