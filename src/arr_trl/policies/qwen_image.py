"""Qwen-Image text-to-image: `QwenImagePipeline` as a policy."""

from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, QwenImagePipeline

from .base import FlowPolicy
from .batching import Conditioning, trim
from .encoders import last_hidden_state_alone
from .guidance import guided_at_its_norm
from .latents import decode_frame, encode_frame, factor_of_frames
from .schedule import resolution_shift, scheduler_sigmas


class QwenImagePolicy(FlowPolicy):
    """
    Qwen-Image: Qwen2.5-VL as the only encoder, classifier-free guidance whose result is scaled back to the norm of the
    conditional prediction. Texts of one length go through the transformer together, unmasked, as in its pipeline.

    Args:
        pipeline ([`~diffusers.QwenImagePipeline`]):
            The pipeline.
        max_sequence_length (`int`, *optional*, defaults to `512`):
            Text tokens per prompt, as in `QwenImagePipeline.__call__`; at most 1024.
        negative_prompt (`str`, *optional*, defaults to `" "`):
            What guidance leads away from when `guidance_scale`, the pipeline's `true_cfg_scale`, is greater than 1.
            With `None` there is no guidance.
        max_cached_prompts (`int`, *optional*, defaults to `1024`):
            How many encoded prompts are kept in memory.
    """

    pipeline_class = QwenImagePipeline
    guidance_argument = "true_cfg_scale"
    cfg_off_scale = 1.0
    default_guidance_scale = 4.0
    default_num_inference_steps = 50
    # Those of the published ARR-Qwen-Image-Edit adapter, which has the same transformer.
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
    size_multiple_of = staticmethod(factor_of_frames)

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        max_sequence_length: int | None = 512,
        negative_prompt: str | None = " ",
        max_cached_prompts: int = 1024,
    ):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        self.negative_prompt = negative_prompt
        self._num_channels = pipeline.transformer.config.in_channels // 4

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        conditioning = self._encode_prompts("prompt", [row["prompt"] for row in rows])
        size = torch.tensor([[[height // self.size_multiple, width // self.size_multiple]]])
        return conditioning | {"shapes": size.expand(len(rows), -1, -1)}

    def encode_negative(self) -> Conditioning:
        return self._encode_prompts("negative", [self.negative_prompt])

    def _encode_prompts(self, name: str, prompts: list[str], **kwargs: Any) -> Conditioning:
        if self.max_sequence_length is not None:
            kwargs["max_sequence_length"] = self.max_sequence_length
        with last_hidden_state_alone(self.pipeline.text_encoder):
            embeds, mask = self.pipeline.encode_prompt(prompt=prompts, device=self.device, **kwargs)
        if mask is None:  # nothing is padded
            mask = torch.ones(embeds.shape[:2])
        return {f"{name}_embeds": embeds, f"{name}_mask": mask.bool().cpu()}

    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        config = self.pipeline.scheduler.config
        mu = resolution_shift(config, (height // self.size_multiple) * (width // self.size_multiple))
        return scheduler_sigmas(
            self.pipeline.scheduler, num_steps, sigmas=np.linspace(1.0, 1 / num_steps, num_steps), mu=mu
        )

    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        return self.pipeline.prepare_latents(
            batch, self._num_channels, height, width, torch.float32, self.device, generator
        )

    def velocity(
        self,
        model: torch.nn.Module,
        latents: torch.Tensor,
        sigma: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        predictions = self._by_length(self._of_one_shape, model, latents, sigma, conditioning, guidance_scale)
        return predictions if len(predictions) == len(latents) else guided_at_its_norm(predictions, guidance_scale)

    def _of_one_shape(
        self, model: torch.nn.Module, latents: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """The network's predictions for rows whose pictures have the same shapes."""
        # the target first, then the sources; zeros where this row has fewer of them than others
        shapes = [(1, *shape) for shape in conditioning["shapes"][0].tolist() if shape[0]]
        hidden_states = latents.to(self.dtype)
        if len(shapes) > 1:
            num_tokens = sum(height * width for _, height, width in shapes[1:])
            hidden_states = torch.cat([hidden_states, conditioning["source_latents"][:, :num_tokens]], 1)
        embeds, mask = trim(conditioning["embeds"], conditioning["mask"])
        return model(
            hidden_states=hidden_states,
            # the pipeline rounds the timestep, not sigma, to the network's precision
            timestep=(sigma * 1000).to(self.dtype) / 1000,
            encoder_hidden_states=embeds,
            encoder_hidden_states_mask=mask,
            img_shapes=[shapes] * len(embeds),
            return_dict=False,
        )[0][:, : latents.shape[1]].float()

    def to_pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        latents = self.pipeline._unpack_latents(latents, height, width, self.pipeline.vae_scale_factor)
        return decode_frame(self.pipeline.vae, latents)

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        latents = encode_frame(self.pipeline.vae, pixels)[:, :, 0]
        return self.pipeline._pack_latents(latents, *latents.shape)
