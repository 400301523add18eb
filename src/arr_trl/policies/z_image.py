"""Z-Image: `ZImagePipeline` as a policy."""

from typing import Any

import torch
from diffusers import ZImagePipeline
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas

from .base import FlowPolicy
from .batching import Conditioning, concatenate
from .latents import as_grid, as_tokens, decode_scaled, draw_noise, encode_scaled
from .schedule import resolution_shift, scheduler_sigmas


class ZImagePolicy(FlowPolicy):
    """
    Z-Image and Z-Image-Turbo: Qwen3 as the only encoder, a transformer that takes lists of rows and pads them itself,
    classifier-free guidance. Its latents are pictures `[B, 16, h, w]`; here each of their pixels is a token.

    Its `guidance_scale` is what is added to the conditional prediction: 0 is no guidance, 1 what other families call 2.

    Args:
        pipeline ([`~diffusers.ZImagePipeline`]):
            The pipeline.
        max_sequence_length (`int`, *optional*, defaults to `512`):
            Text tokens per prompt, chat template included, as in `ZImagePipeline.__call__`.
        negative_prompt (`str`, *optional*, defaults to `""`):
            What guidance leads away from when `guidance_scale` is greater than 0. With `None` there is no guidance.
        max_cached_prompts (`int`, *optional*, defaults to `1024`):
            How many encoded prompts are kept in memory.
    """

    pipeline_class = ZImagePipeline
    cfg_off_scale = 0.0
    default_guidance_scale = 4.0
    default_num_inference_steps = 50
    distilled_num_inference_steps = 8  # of the 9 on Turbo's card the last was no forward; diffusers has none such now
    target_modules = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")

    def __init__(
        self,
        pipeline: ZImagePipeline,
        max_sequence_length: int = 512,
        negative_prompt: str | None = "",
        max_cached_prompts: int = 1024,
    ):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        self.negative_prompt = negative_prompt

    @property
    def distilled(self) -> bool:
        return self.pipeline.scheduler.config.shift == 3.0  # Z-Image-Turbo's; Z-Image's is 6

    @property
    def hidden_size(self) -> int:
        return self.pipeline.transformer.config.dim

    def num_tokens(self, prompt: str) -> int:
        tokenizer = self.pipeline.tokenizer
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        return len(tokenizer(text)["input_ids"])

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        conditioning = self._encode_prompts("prompt", [row["prompt"] for row in rows])
        factor = self.pipeline.vae_scale_factor
        size = torch.tensor([[height // factor, width // factor]])
        return conditioning | {"size": size.expand(len(rows), -1)}

    def encode_negative(self) -> Conditioning:
        return self._encode_prompts("negative", [self.negative_prompt])

    def _encode_prompts(self, name: str, prompts: list[str]) -> Conditioning:
        embeds, _ = self.pipeline.encode_prompt(
            prompt=prompts,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
        )
        masks = [torch.ones(1, len(row), dtype=torch.bool) for row in embeds]
        rows = [{f"{name}_embeds": row[None], f"{name}_mask": mask} for row, mask in zip(embeds, masks, strict=True)]
        return concatenate(rows)

    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        config = self.pipeline.scheduler.config
        mu = resolution_shift(config, (height // self.size_multiple) * (width // self.size_multiple))
        return scheduler_sigmas(
            self.pipeline.scheduler, num_steps, sigmas=get_default_z_image_sigmas(num_steps), mu=mu
        )

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
        velocity = self._by_length(
            self._of_one_length, model, latents, sigma, conditioning, guidance_scale, SEQ_MULTI_OF
        )
        if len(velocity) == len(latents):
            return velocity
        conditional, negative = velocity.chunk(2)
        return conditional + guidance_scale * (conditional - negative)

    def _of_one_length(
        self, model: torch.nn.Module, latents: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        # all rows of a batch have one size; a picture is `[16, 1, h, w]`
        pictures = list(as_grid(latents, 1, *conditioning["size"][0].tolist()).to(self.dtype))
        predictions = model(
            x=pictures,
            t=(1000 - sigma * 1000) / 1000,  # time runs from noise to data
            cap_feats=[
                embeds[: int(mask.sum())]
                for embeds, mask in zip(conditioning["embeds"], conditioning["mask"], strict=True)
            ],
            return_dict=False,
        )[0]
        # the network predicts `x0 - ε`
        return -as_tokens(torch.stack(predictions).float())

    def to_pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        factor = self.pipeline.vae_scale_factor
        return decode_scaled(self.pipeline.vae, as_grid(latents, height // factor, width // factor))

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return as_tokens(encode_scaled(self.pipeline.vae, pixels))
