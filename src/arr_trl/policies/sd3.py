"""Stable Diffusion 3 and 3.5: `StableDiffusion3Pipeline` as a policy."""

from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline

from .base import FlowPolicy
from .batching import Conditioning
from .guidance import guided
from .latents import as_grid, as_tokens, decode_scaled, draw_noise, encode_scaled
from .schedule import resolution_shift, scheduler_sigmas


class StableDiffusion3Policy(FlowPolicy):
    """
    Stable Diffusion 3 and 3.5: two CLIP encoders and T5, classifier-free guidance. Its latents are pictures
    `[B, 16, h, w]`; here each of their pixels is a token.

    Args:
        pipeline ([`~diffusers.StableDiffusion3Pipeline`]):
            The pipeline.
        max_sequence_length (`int`, *optional*, defaults to `256`):
            T5 tokens per prompt, as in `StableDiffusion3Pipeline.__call__`. Padding is not masked, so pictures depend
            on it.
        negative_prompt (`str`, *optional*, defaults to `""`):
            What guidance leads away from when `guidance_scale` is greater than 1. With `None` there is no guidance.
        max_cached_prompts (`int`, *optional*, defaults to `1024`):
            How many encoded prompts are kept in memory.
    """

    pipeline_class = StableDiffusion3Pipeline
    cfg_off_scale = 1.0
    may_lack = ("text_encoder_3", "tokenizer_3")  # T5 may be left out to save memory
    # The cards say 3.5 and 28 (large) and 4.5 and 40 (medium). Turbo models have their base's configuration: the name tells.
    default_guidance_scale = 4.5
    default_num_inference_steps = 28
    # Those that Flow-GRPO trains.
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
        pipeline: StableDiffusion3Pipeline,
        max_sequence_length: int = 256,
        negative_prompt: str | None = "",
        max_cached_prompts: int = 1024,
    ):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        self.negative_prompt = negative_prompt

    def num_tokens(self, prompt: str) -> int:
        tokenizer = self.pipeline.tokenizer_3 or self.pipeline.tokenizer
        return len(tokenizer(prompt)["input_ids"])

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        conditioning = self._encode_prompts("prompt", [row["prompt"] for row in rows])
        factor = self.pipeline.vae_scale_factor
        size = torch.tensor([[height // factor, width // factor]])
        return conditioning | {"size": size.expand(len(rows), -1)}

    def encode_negative(self) -> Conditioning:
        return self._encode_prompts("negative", [self.negative_prompt])

    def _encode_prompts(self, name: str, prompts: list[str]) -> Conditioning:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            prompt=prompts,
            prompt_2=None,
            prompt_3=None,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
        )
        return {f"{name}_embeds": embeds, f"{name}_pooled": pooled}

    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        scheduler = self.pipeline.scheduler  # which looks at `mu` only where its shifting is dynamic
        tokens = (height // self.size_multiple) * (width // self.size_multiple)
        return scheduler_sigmas(scheduler, num_steps, mu=resolution_shift(scheduler.config, tokens, max_shift=1.16))

    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        return draw_noise(self.pipeline, batch, height, width, self.device, generator)

    def velocity(
        self,
        model: torch.nn.Module,
        latents: torch.Tensor,
        sigma: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        branches = ["prompt", "negative"] if self.uses_cfg(guidance_scale) else ["prompt"]
        # all rows of a batch have one size
        pictures = as_grid(latents, *conditioning["size"][0].tolist()).to(self.dtype)
        predictions = model(
            hidden_states=pictures.repeat(len(branches), 1, 1, 1),
            timestep=(sigma * 1000).repeat(len(branches)),
            encoder_hidden_states=torch.cat([conditioning[f"{branch}_embeds"] for branch in branches]),
            pooled_projections=torch.cat([conditioning[f"{branch}_pooled"] for branch in branches]),
            return_dict=False,
        )[0]
        predictions = as_tokens(predictions.float())
        return guided(predictions, guidance_scale) if len(branches) == 2 else predictions

    def to_pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        factor = self.pipeline.vae_scale_factor
        return decode_scaled(self.pipeline.vae, as_grid(latents, height // factor, width // factor))

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return as_tokens(encode_scaled(self.pipeline.vae, pixels))
