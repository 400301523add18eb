"""Inpainting with models that know no masks: `FluxInpaintPipeline` and `QwenImageInpaintPipeline` as policies."""

from typing import Any

import torch
from diffusers import FluxInpaintPipeline, QwenImageInpaintPipeline
from torch.nn.functional import interpolate

from ..digests import image_digest
from .batching import Conditioning, concatenate
from .flux import FluxPolicy
from .masks import mask_of, packed_noise
from .qwen_image import QwenImagePolicy
from .sources import single_source


class _Inpainting:
    """
    What a policy from prompts needs to leave a part of a picture as it is.

    The pipelines put the source, with as much noise as is left, in the place of what the mask leaves after every step. That
    is a flow too: the velocity that leads from where the latents are straight to the source. Steps without noise follow it
    to the pipeline's own latents, and those with noise end at the source as well.
    """

    editing = True
    needs_mask = True

    def call_kwargs(self, height: int, width: int) -> dict[str, Any]:
        return super().call_kwargs(height, width) | {"strength": 1.0}  # from noise alone, as all others

    def cache_key(self, row: dict[str, Any]) -> Any:
        return *super().cache_key(row), image_digest(mask_of(row))

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        sources = concatenate([self._encode_masked(row, height, width) for row in rows])
        return super().encode_rows(rows, height, width) | sources

    def _encode_masked(self, row: dict[str, Any], height: int, width: int) -> Conditioning:
        pipeline, channels = self.pipeline, self._num_channels
        size = height // pipeline.vae_scale_factor, width // pipeline.vae_scale_factor
        mask = interpolate(pipeline.mask_processor.preprocess(mask_of(row), height=height, width=width), size)
        return {
            "kept_latents": self.encode_pictures([single_source(row, self.pipeline_class.__name__)], height, width),
            "drawn": pipeline._pack_latents(mask.repeat(1, channels, 1, 1), 1, channels, *size).to(self.device) > 0,
        }

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
        drawn = super().velocity(model, latents, sigma, conditioning, guidance_scale)
        to_source = (latents - conditioning["kept_latents"]) / sigma.view(-1, 1, 1)
        return torch.where(conditioning["drawn"], drawn, to_source)


class FluxInpaintPolicy(_Inpainting, FluxPolicy):
    """
    FLUX.1-dev that draws a part of a picture anew. Rows have a `source_image` and a `mask_image`, white where the source is
    drawn anew; both are resized to the size that is drawn. Pictures are drawn from noise alone, `strength=1`, and a seed
    gives other noise than in the pipeline's call, which samples the latents of the source with it first. See [`FluxPolicy`]
    for the arguments.
    """

    pipeline_class = FluxInpaintPipeline
    default_guidance_scale = 7.0
    default_num_inference_steps = 28


class QwenImageInpaintPolicy(_Inpainting, QwenImagePolicy):
    """
    Qwen-Image that draws a part of a picture anew. See [`FluxInpaintPolicy`] for its rows and [`QwenImagePolicy`] for the
    arguments.
    """

    pipeline_class = QwenImageInpaintPipeline
