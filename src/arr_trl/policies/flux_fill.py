"""FLUX.1-Fill: `FluxFillPipeline` as a policy."""

from typing import Any

import torch
from diffusers import FluxFillPipeline

from ..digests import image_digest
from .batching import Conditioning, concatenate
from .flux import FluxPolicy
from .masks import mask_of, packed_noise
from .sources import single_source


class FluxFillPolicy(FluxPolicy):
    """
    FLUX.1-Fill-dev: FLUX.1 whose transformer gets, beside each token of the picture, what the mask leaves of the source and
    the mask itself. Rows have a `source_image` and a `mask_image`, white where the source is drawn anew; both are resized to
    the size that is drawn.

    The pipeline samples the latents of a source with the generator that noise is drawn with afterwards. Here they are the
    mode of what the encoder predicts, so that a row is always the same; a seed gives other noise than in the pipeline's call.

    Args:
        pipeline ([`~diffusers.FluxFillPipeline`]):
            The pipeline.
        max_sequence_length (`int`, *optional*, defaults to `512`):
            T5 tokens per prompt, as in `FluxFillPipeline.__call__`.
        max_cached_prompts (`int`, *optional*, defaults to `128`):
            How many encoded rows are kept in memory, with their masked sources.
    """

    pipeline_class = FluxFillPipeline
    default_guidance_scale = 30.0
    default_num_inference_steps = 50
    editing = True
    needs_mask = True

    def __init__(self, pipeline: FluxFillPipeline, max_sequence_length: int = 512, max_cached_prompts: int = 128):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        self._num_channels = pipeline.vae.config.latent_channels

    def cache_key(self, row: dict[str, Any]) -> Any:
        return *super().cache_key(row), image_digest(mask_of(row))

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        masked = concatenate([self._encode_masked(row, height, width) for row in rows])
        return super().encode_rows(rows, height, width) | masked

    def _encode_masked(self, row: dict[str, Any], height: int, width: int) -> Conditioning:
        pipeline, vae = self.pipeline, self.pipeline.vae
        source = pipeline.image_processor.preprocess(single_source(row, self.pipeline_class.__name__), height, width)
        mask = pipeline.mask_processor.preprocess(mask_of(row), height=height, width=width)
        left = (source * (1 - mask)).to(self.device, vae.dtype)
        latents = vae.encode(
            left
        ).latent_dist.mode()  # the pipeline's method shifts and scales what is in latents already
        mask, latents = pipeline.prepare_mask_latents(
            mask, latents, 1, self._num_channels, 1, height, width, self.dtype, self.device, None
        )
        return {"masked_latents": torch.cat([latents, mask], -1)}

    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        return packed_noise(self.pipeline, batch, self._num_channels, height, width, self.device, generator)

    def velocity(
        self,
        model: torch.nn.Module,
        latents: torch.Tensor,
        sigma: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        both = torch.cat([latents, conditioning["masked_latents"].to(latents.dtype)], -1)
        return super().velocity(model, both, sigma, conditioning, guidance_scale)
