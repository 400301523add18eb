"""FLUX.1 text-to-image: `FluxPipeline` as a policy."""

from typing import Any

import numpy as np
import torch
from diffusers import FluxPipeline

from .base import FlowPolicy
from .batching import Conditioning
from .latents import decode_scaled, encode_scaled
from .schedule import resolution_shift, scheduler_sigmas


class FluxPolicy(FlowPolicy):
    """
    FLUX.1-dev and its relatives: CLIP and T5 encoders, guidance as an embedding, packed latents of 64 channels.

    Args:
        pipeline ([`~diffusers.FluxPipeline`]):
            The pipeline.
        max_sequence_length (`int`, *optional*, defaults to `512`):
            T5 tokens per prompt, as in `FluxPipeline.__call__`. FLUX does not mask padding, so pictures depend on it.
        max_cached_prompts (`int`, *optional*, defaults to `1024`):
            How many encoded prompts are kept in memory.
    """

    pipeline_class = FluxPipeline
    default_guidance_scale = 3.5
    default_num_inference_steps = 30
    # Those of the published ARR-FLUX.1-dev adapter. `attn.to_q/k/v` also match the single-stream blocks.
    target_modules = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
        "ff.net.0.proj",
        "ff.net.2",
        "ff_context.net.0.proj",
        "ff_context.net.2",
    )

    def __init__(self, pipeline: FluxPipeline, max_sequence_length: int = 512, max_cached_prompts: int = 1024):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        self._guidance_embeds = pipeline.transformer.config.guidance_embeds
        self._num_channels = pipeline.transformer.config.in_channels // 4

    @property
    def distilled(self) -> bool:
        return not self.pipeline.transformer.config.guidance_embeds or super().distilled  # -schnell has none, -dev has

    def num_tokens(self, prompt: str) -> int:
        return len(self.pipeline.tokenizer_2(prompt)["input_ids"])

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        prompt_embeds, pooled_prompt_embeds, _ = self.pipeline.encode_prompt(
            prompt=[row["prompt"] for row in rows],
            prompt_2=None,
            device=self.device,
            max_sequence_length=self.max_sequence_length,
        )
        image_ids = self.pipeline._prepare_latent_image_ids(
            1, height // self.size_multiple, width // self.size_multiple, self.device, prompt_embeds.dtype
        )
        return {
            "prompt_embeds": prompt_embeds,
            "pooled_prompt_embeds": pooled_prompt_embeds,
            "image_ids": image_ids.expand(len(rows), -1, -1),
        }

    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        config = self.pipeline.scheduler.config
        mu = resolution_shift(config, (height // self.size_multiple) * (width // self.size_multiple))
        sigmas = None if config.get("use_flow_sigmas") else np.linspace(1.0, 1 / num_steps, num_steps)
        return scheduler_sigmas(self.pipeline.scheduler, num_steps, sigmas=sigmas, mu=mu)

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
        prompt_embeds = conditioning["prompt_embeds"]
        return model(
            hidden_states=latents.to(self.dtype),
            # the pipeline rounds the timestep, not sigma, to the network's precision
            timestep=(sigma * 1000).to(self.dtype) / 1000,
            guidance=latents.new_full((len(latents),), guidance_scale) if self._guidance_embeds else None,
            pooled_projections=conditioning["pooled_prompt_embeds"],
            encoder_hidden_states=prompt_embeds,
            txt_ids=prompt_embeds.new_zeros(prompt_embeds.shape[1], 3),
            # all rows of a batch have one size
            img_ids=conditioning["image_ids"][0],
            return_dict=False,
        )[0].float()

    def to_pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        latents = self.pipeline._unpack_latents(latents, height, width, self.pipeline.vae_scale_factor)
        return decode_scaled(self.pipeline.vae, latents)

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        latents = encode_scaled(self.pipeline.vae, pixels)
        return self.pipeline._pack_latents(latents, *latents.shape)
