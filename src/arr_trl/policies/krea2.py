"""Krea-2: `Krea2Pipeline` as a policy."""

from typing import Any

import numpy as np
import torch
from diffusers import Krea2Pipeline

from .base import FlowPolicy
from .batching import Conditioning, concatenate, trim
from .latents import decode_frame, encode_frame, factor_of_frames
from .schedule import resolution_shift, scheduler_sigmas


class Krea2Policy(FlowPolicy):
    """
    Krea-2: the states of several layers of Qwen3-VL, which the transformer fuses, and the autoencoder of Qwen-Image.

    The pipeline pads a prompt between its end and what follows it in the chat template. The network sees no padding and
    gives all text one position, so that here padding is left out: the same pictures from shorter sequences.

    Its `guidance_scale` is what is added to the conditional prediction: 0 is no guidance, 1 what other families call 2.

    Args:
        pipeline ([`~diffusers.Krea2Pipeline`]):
            The pipeline.
        max_sequence_length (`int`, *optional*, defaults to `512`):
            Text tokens per prompt, the end of the chat template included, as in `Krea2Pipeline.__call__`.
        negative_prompt (`str`, *optional*, defaults to `""`):
            What guidance leads away from when `guidance_scale` is greater than 0. With `None` there is no guidance.
        max_cached_prompts (`int`, *optional*, defaults to `1024`):
            How many encoded prompts are kept in memory, 60 kB a token in bfloat16.
    """

    pipeline_class = Krea2Pipeline
    cfg_off_scale = 0.0
    default_guidance_scale = 4.5
    default_num_inference_steps = 28
    distilled_num_inference_steps = 8
    not_checkpointed = ("text_fusion", "final_layer")
    target_modules = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")
    size_multiple_of = staticmethod(factor_of_frames)

    def __init__(
        self,
        pipeline: Krea2Pipeline,
        max_sequence_length: int = 512,
        negative_prompt: str | None = "",
        max_cached_prompts: int = 1024,
    ):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        self.negative_prompt = negative_prompt

    @property
    def distilled(self) -> bool:
        return self.pipeline.config.is_distilled

    def num_tokens(self, prompt: str) -> int:
        pipeline = self.pipeline
        tokens = pipeline.tokenizer(pipeline.prompt_template_encode_prefix + prompt)["input_ids"]
        around = pipeline.prompt_template_encode_num_suffix_tokens - pipeline.prompt_template_encode_start_idx
        return len(tokens) + around

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        conditioning = self._encode_prompts("prompt", [row["prompt"] for row in rows])
        size = torch.tensor([[height // self.size_multiple, width // self.size_multiple]])
        return conditioning | {"size": size.expand(len(rows), -1)}

    def encode_negative(self) -> Conditioning:
        return self._encode_prompts("negative", [self.negative_prompt])

    def _encode_prompts(self, name: str, prompts: list[str]) -> Conditioning:
        embeds, masks = self.pipeline.encode_prompt(
            prompt=prompts, device=self.device, max_sequence_length=self.max_sequence_length
        )
        rows = [row[mask][None] for row, mask in zip(embeds, masks, strict=True)]
        return concatenate([
            {f"{name}_embeds": row, f"{name}_mask": torch.ones(row.shape[:2], dtype=torch.bool)} for row in rows
        ])  # fmt: skip

    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        scheduler, tokens = self.pipeline.scheduler, (height // self.size_multiple) * (width // self.size_multiple)
        mu = 1.15 if self.distilled else resolution_shift(scheduler.config, tokens)
        return scheduler_sigmas(scheduler, num_steps, sigmas=np.linspace(1.0, 1 / num_steps, num_steps), mu=mu)

    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        channels = self.pipeline.transformer.config.in_channels // self.pipeline.config.patch_size**2
        return self.pipeline.prepare_latents(batch, channels, height, width, torch.float32, self.device, generator)

    def velocity(
        self,
        model: torch.nn.Module,
        latents: torch.Tensor,
        sigma: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        predictions = self._by_length(self._of_one_length, model, latents, sigma, conditioning, guidance_scale)
        if len(predictions) == len(latents):
            return predictions
        conditional, negative = predictions.chunk(2)
        return conditional + guidance_scale * (conditional - negative)

    def _of_one_length(
        self, model: torch.nn.Module, latents: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        embeds, mask = trim(conditioning["embeds"], conditioning["mask"])
        size = conditioning["size"][0].tolist()  # all rows of a batch have one
        return model(
            hidden_states=latents.to(self.dtype),
            encoder_hidden_states=embeds,
            timestep=(sigma * 1000 / 1000).to(self.dtype),
            position_ids=self.pipeline.prepare_position_ids(embeds.shape[1], *size, self.device),
            encoder_attention_mask=mask,
            return_dict=False,
        )[0].float()

    def to_pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return decode_frame(self.pipeline.vae, self.pipeline._unpack_latents(latents, height, width))

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        latents = encode_frame(self.pipeline.vae, pixels)[:, :, 0]
        return self.pipeline._pack_latents(latents, *latents.shape)
