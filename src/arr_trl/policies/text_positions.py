"""What LongCat-Image and Ovis-Image share: transformers as FLUX.1's, whose text has positions and no pooled form."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from .base import FlowPolicy
from .batching import Conditioning
from .guidance import guided
from .latents import decode_scaled, encode_scaled
from .schedule import resolution_shift, scheduler_sigmas


class TextPositionsPolicy(FlowPolicy):
    """
    A transformer as FLUX.1's that knows where a token of the text stands, and classifier-free guidance. A subclass says how
    prompts are encoded.
    """

    cfg_off_scale = 1.0
    default_num_inference_steps = 50
    target_modules = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
    )

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        max_sequence_length: int,
        negative_prompt: str | None,
        max_cached_prompts: int,
    ):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        self.negative_prompt = negative_prompt
        self._num_channels = pipeline.transformer.config.in_channels // 4

    @abstractmethod
    def _encode_prompts(self, name: str, prompts: list[str]) -> Conditioning:
        """The text under `{name}_embeds` and its positions under `{name}_ids`, a row for each prompt."""

    def _guided(self, predictions: torch.Tensor, guidance_scale: float) -> torch.Tensor:
        return guided(predictions, guidance_scale)

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        # handed latents, it draws none, and the positions are what is asked for
        _, image_ids = self.pipeline.prepare_latents(
            1, self._num_channels, height, width, self.dtype, self.device, None, torch.empty(0)
        )
        conditioning = self._encode_prompts("prompt", [row["prompt"] for row in rows])
        return conditioning | {"image_ids": image_ids.expand(len(rows), -1, -1)}

    def encode_negative(self) -> Conditioning:
        return self._encode_prompts("negative", [self.negative_prompt])

    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        config = self.pipeline.scheduler.config
        mu = resolution_shift(config, (height // self.size_multiple) * (width // self.size_multiple))
        return scheduler_sigmas(
            self.pipeline.scheduler, num_steps, sigmas=np.linspace(1.0, 1 / num_steps, num_steps), mu=mu
        )

    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        latents, _ = self.pipeline.prepare_latents(
            batch, self._num_channels, height, width, torch.float32, self.device, generator
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
        branches = ["prompt", "negative"] if self.uses_cfg(guidance_scale) else ["prompt"]
        predictions = model(
            hidden_states=latents.to(self.dtype).repeat(len(branches), 1, 1),
            # the pipeline rounds the timestep, not sigma, to the network's precision
            timestep=((sigma * 1000).to(self.dtype) / 1000).repeat(len(branches)),
            encoder_hidden_states=torch.cat([conditioning[f"{branch}_embeds"] for branch in branches]),
            # position ids are those of any row: all have one size and one text length
            txt_ids=conditioning["prompt_ids"][0],
            img_ids=conditioning["image_ids"][0],
            return_dict=False,
        )[0].float()
        return self._guided(predictions, guidance_scale) if len(branches) == 2 else predictions

    def to_pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        latents = self.pipeline._unpack_latents(latents, height, width, self.pipeline.vae_scale_factor)
        return decode_scaled(self.pipeline.vae, latents)

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        latents = encode_scaled(self.pipeline.vae, pixels)
        return self.pipeline._pack_latents(latents, *latents.shape)
