"""Lumina-Image 2.0: `Lumina2Pipeline` as a policy."""

from typing import Any

import numpy as np
import torch
from diffusers import Lumina2Pipeline

from .base import FlowPolicy
from .batching import Conditioning, trim
from .guidance import guided_at_its_norm
from .latents import as_grid, as_tokens, decode_scaled, draw_noise, encode_scaled
from .schedule import resolution_shift, scheduler_sigmas


class Lumina2Policy(FlowPolicy):
    """
    Lumina-Image 2.0: Gemma 2 as the only encoder, masked padding, classifier-free guidance whose result is scaled back to
    the norm of the conditional prediction, row of pixels by row. Its latents are pictures `[B, 16, h, w]`; here each of
    their pixels is a token.

    Args:
        pipeline ([`~diffusers.Lumina2Pipeline`]):
            The pipeline.
        max_sequence_length (`int`, *optional*, defaults to `256`):
            Text tokens per prompt, the pipeline's system prompt included, as in `Lumina2Pipeline.__call__`; at most 512.
        negative_prompt (`str`, *optional*, defaults to `""`):
            What guidance leads away from when `guidance_scale` is greater than 1. With `None` there is no guidance.
        max_cached_prompts (`int`, *optional*, defaults to `1024`):
            How many encoded prompts are kept in memory.
    """

    pipeline_class = Lumina2Pipeline
    cfg_off_scale = 1.0
    default_guidance_scale = 4.0
    default_num_inference_steps = 30
    not_checkpointed = ("context_refiner", "noise_refiner")
    target_modules = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")

    def __init__(
        self,
        pipeline: Lumina2Pipeline,
        max_sequence_length: int = 256,
        negative_prompt: str | None = "",
        max_cached_prompts: int = 1024,
    ):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        self.negative_prompt = negative_prompt

    @property
    def hidden_size(self) -> int:
        return self.pipeline.transformer.config.hidden_size

    def num_tokens(self, prompt: str) -> int:
        return len(self.pipeline.tokenizer(f"{self.pipeline.system_prompt} <Prompt Start> {prompt}")["input_ids"])

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        embeds, mask, _, _ = self._encode_prompts([row["prompt"] for row in rows], False)
        factor = self.pipeline.vae_scale_factor
        size = torch.tensor([[height // factor, width // factor]]).expand(len(rows), -1)
        return {"prompt_embeds": embeds, "prompt_mask": mask.bool().cpu(), "size": size}

    def encode_negative(self) -> Conditioning:
        _, _, embeds, mask = self._encode_prompts([""], True)  # without the system prompt
        return {"negative_embeds": embeds, "negative_mask": mask.bool().cpu()}

    def _encode_prompts(self, prompts: list[str], guided: bool) -> tuple[torch.Tensor, ...]:
        return self.pipeline.encode_prompt(
            prompts,
            do_classifier_free_guidance=guided,
            negative_prompt=[self.negative_prompt] if guided else None,
            device=self.device,
            max_sequence_length=self.max_sequence_length,
        )

    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        scheduler = self.pipeline.scheduler  # which looks at `mu` only where its shifting is dynamic
        # the pipeline takes the channels of the latents for their number
        mu = resolution_shift(scheduler.config, self.pipeline.transformer.config.in_channels)
        return scheduler_sigmas(scheduler, num_steps, sigmas=np.linspace(1.0, 1 / num_steps, num_steps), mu=mu)

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
        predictions = self._by_length(self._of_one_length, model, latents, sigma, conditioning, guidance_scale)
        if len(predictions) > len(latents):
            predictions = guided_at_its_norm(predictions, guidance_scale)
        return -as_tokens(predictions)  # the network predicts `x0 - ε`

    def _of_one_length(
        self, model: torch.nn.Module, latents: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        embeds, mask = trim(conditioning["embeds"], conditioning["mask"])
        return model(
            # all rows of a batch have one size
            hidden_states=as_grid(latents, *conditioning["size"][0].tolist()).to(self.dtype),
            timestep=1 - sigma * 1000 / 1000,  # time runs from noise to data
            encoder_hidden_states=embeds,
            # the layers of the text alone take a mask in any case
            encoder_attention_mask=torch.ones_like(embeds[..., 0], dtype=torch.bool) if mask is None else mask,
            return_dict=False,
        )[0].float()

    def to_pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        factor = self.pipeline.vae_scale_factor
        return decode_scaled(self.pipeline.vae, as_grid(latents, height // factor, width // factor))

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return as_tokens(encode_scaled(self.pipeline.vae, pixels))
