"""FLUX.2: `Flux2Pipeline` (dev) as a policy, from a prompt alone or with reference pictures."""

from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu, format_input
from PIL import Image

from ..data import Size
from .base import FlowPolicy
from .batching import Conditioning, concatenate, in_groups
from .guidance import guided
from .schedule import scheduler_sigmas


class Flux2Policy(FlowPolicy):
    """
    FLUX.2-dev: Mistral as the only encoder, guidance as an embedding, packed latents of 128 channels.

    A row that has a `source_image`, one picture or a list of them, is drawn after these references: their latents stand
    behind those of the picture, in the order of the list, each at a time of its own. As in the pipeline a reference keeps
    its size, up to a megapixel, and is cropped to whole patches; rows whose references differ in shape go through the
    transformer one shape at a time.

    Args:
        pipeline ([`~diffusers.Flux2Pipeline`]):
            The pipeline.
        max_sequence_length (`int`, *optional*, defaults to `512`):
            Text tokens per prompt, chat template included, as in `Flux2Pipeline.__call__`. Padding is not masked, so
            pictures depend on it.
        max_cached_prompts (`int`, *optional*, defaults to `1024`):
            How many encoded prompts are kept in memory.
    """

    pipeline_class = Flux2Pipeline
    may_edit = True
    default_guidance_scale = 4.0
    default_num_inference_steps = 50
    # The FLUX.1 adapter's counterparts; a single-stream block has one projection in and one out.
    target_modules = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
        "attn.to_qkv_mlp_proj",
        "ff.linear_in",
        "ff.linear_out",
        "ff_context.linear_in",
        "ff_context.linear_out",
    )

    def __init__(self, pipeline: DiffusionPipeline, max_sequence_length: int = 512, max_cached_prompts: int = 1024):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        self._guidance_embeds = pipeline.transformer.config.guidance_embeds
        self._num_channels = pipeline.transformer.config.in_channels // 4

    def num_tokens(self, prompt: str) -> int:
        messages = format_input([prompt], self.pipeline.system_message)
        tokens = self.pipeline.tokenizer.apply_chat_template(
            messages, add_generation_prompt=False, tokenize=True, return_dict=True
        )
        return len(tokens["input_ids"][0])

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        conditioning = self._encode_prompts("prompt", [row["prompt"] for row in rows])
        return conditioning | concatenate([self._encode_sources(self.sources(row), height, width) for row in rows])

    def encode_negative(self) -> Conditioning:
        return self._encode_prompts("negative", [self.negative_prompt])

    def _encode_prompts(self, name: str, prompts: list[str]) -> Conditioning:
        embeds, text_ids = self.pipeline.encode_prompt(
            prompt=prompts, device=self.device, max_sequence_length=self.max_sequence_length
        )
        return {f"{name}_embeds": embeds, f"{name}_ids": text_ids}

    def _encode_sources(self, images: list[Image.Image], height: int, width: int) -> Conditioning:
        """References of one row, their shapes in latent patches, and the positions of the picture and of them."""
        pipeline, image_ids = self.pipeline, self._image_ids(1, height, width)
        if not images:
            latents = torch.zeros(1, 0, pipeline.transformer.config.in_channels, dtype=self.dtype, device=self.device)
            return {
                "image_ids": image_ids,
                "source_latents": latents,
                "shapes": torch.zeros(1, 0, 2, dtype=torch.long),
            }
        pixels = [self._pixels(image) for image in images]
        latents, source_ids = pipeline.prepare_image_latents(pixels, 1, None, self.device, pipeline.vae.dtype)
        return {
            "image_ids": torch.cat([image_ids, source_ids], 1),
            "source_latents": latents.to(self.dtype),
            "shapes": torch.tensor([[picture.shape[-2:] for picture in pixels]]) // self.size_multiple,
        }

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        processor, multiple = self.pipeline.image_processor, self.size_multiple
        processor.check_image_input(image)
        image = processor._resize_if_exceeds_area(image)
        height, width = (side // multiple * multiple for side in (image.height, image.width))
        return processor.preprocess(image, height=height, width=width, resize_mode="crop")

    def size_of_edit(self, sources: list[Image.Image], height: int, width: int) -> Size:
        return super().size_of_edit(sources[:1], height, width)  # the pipeline follows the first

    def _image_ids(self, batch: int, height: int, width: int) -> torch.Tensor:
        latents = torch.empty(batch, 1, height // self.size_multiple, width // self.size_multiple)
        return self.pipeline._prepare_latent_ids(latents).to(self.device)

    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        config = self.pipeline.scheduler.config
        sequence_length = (height // self.size_multiple) * (width // self.size_multiple)
        sigmas = None if config.get("use_flow_sigmas") else np.linspace(1.0, 1 / num_steps, num_steps)
        return scheduler_sigmas(
            self.pipeline.scheduler, num_steps, sigmas=sigmas, mu=compute_empirical_mu(sequence_length, num_steps)
        )

    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        latents, _ = self.pipeline.prepare_latents(
            batch, self._num_channels, height, width, torch.float32, self.device, generator
        )
        return latents.contiguous()  # or sums over it would be rounded otherwise than over stored latents

    def velocity(
        self,
        model: torch.nn.Module,
        latents: torch.Tensor,
        sigma: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        def of_one_shape(latents: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
            # other rows may have more or larger references, and this one padding
            num_tokens = int(conditioning["shapes"][0].prod(-1).sum())
            both = torch.cat([latents.to(self.dtype), conditioning["source_latents"][:, :num_tokens]], 1)
            branches = ["prompt", "negative"] if self.uses_cfg(guidance_scale) else ["prompt"]
            predictions = model(
                hidden_states=both.repeat(len(branches), 1, 1),
                # the pipeline rounds the timestep, not sigma, to the network's precision
                timestep=((sigma * 1000).to(self.dtype) / 1000).repeat(len(branches)),
                guidance=latents.new_full((len(latents),), guidance_scale) if self._guidance_embeds else None,
                encoder_hidden_states=torch.cat([conditioning[f"{branch}_embeds"] for branch in branches]),
                # position ids are those of any row: all have one size and one text length
                txt_ids=conditioning["prompt_ids"][0],
                img_ids=conditioning["image_ids"][0, : both.shape[1]],
                return_dict=False,
            )[0][:, : latents.shape[1]].float()
            return guided(predictions, guidance_scale) if len(branches) == 2 else predictions

        return in_groups(of_one_shape, model, conditioning["shapes"], latents, sigma, conditioning)

    def to_pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        pipeline, vae = self.pipeline, self.pipeline.vae
        latents = latents.to(vae.dtype)
        latents = pipeline._unpack_latents_with_ids(latents, self._image_ids(len(latents), height, width))
        # the statistics of a batch norm, patch by patch, in place of a shift and a scale
        mean = vae.bn.running_mean.view(1, -1, 1, 1).to(latents)
        std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).to(latents)
        latents = pipeline._unpatchify_latents(latents * std + mean)
        return vae.decode(latents, return_dict=False)[0]

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.pipeline._pack_latents(self.pipeline._encode_vae_image(pixels, generator=None))
