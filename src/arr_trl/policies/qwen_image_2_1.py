"""Qwen-Image-2.1: `QwenImage21Pipeline` as a policy, from a prompt alone or with pictures."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, QwenImage21Pipeline
from diffusers.pipelines.qwenimage21.pipeline_qwenimage21 import calculate_dimensions
from PIL import Image

from ..data import Size
from .base import FlowPolicy
from .batching import Conditioning, concatenate, in_groups
from .guidance import guided
from .latents import decode_frame, encode_frame
from .processors import ImageOnlyQwen3VLProcessor, with_processor
from .schedule import resolution_shift, scheduler_sigmas


class QwenImage21Policy(FlowPolicy):
    """
    Qwen-Image-2.1: Qwen3-VL reads prompt and pictures, and the transformer gets both as one sequence, latents in the places
    of the pictures. A row may have a `source_image`, one picture or a list of them.

    Where the picture stands in the sequence follows from the length of the text before it. In a batch of the pipeline that
    is the longest text's, so that a prompt draws something else beside a longer one; here rows of different lengths go
    through the transformer one length at a time, each as it is drawn alone, and so does a negative prompt.

    The autoencoder draws a fourth channel, how opaque a pixel is. Pictures are shown over white.

    Args:
        pipeline ([`~diffusers.QwenImage21Pipeline`]):
            The pipeline.
        condition_size (`int`, *optional*, defaults to `1024`):
            Side, in pixels, of the square whose area a source is resized to, the pipeline's `output_resolution`.
        negative_prompt (`str`, *optional*):
            What guidance leads away from when `guidance_scale`, the pipeline's `true_cfg_scale`, is greater than 1. The
            model is made to be sampled without guidance, and by default there is none.
        max_cached_prompts (`int`, *optional*, defaults to `128`):
            How many encoded rows are kept in memory, with the latents of their sources.
    """

    pipeline_class = QwenImage21Pipeline
    guidance_argument = "true_cfg_scale"
    cfg_off_scale = 1.0
    may_edit = True
    default_guidance_scale = 1.0
    default_num_inference_steps = 40
    target_modules = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        condition_size: int = 1024,
        negative_prompt: str | None = None,
        max_cached_prompts: int = 128,
    ):
        super().__init__(pipeline, None, max_cached_prompts)  # the pipeline takes prompts whole
        if condition_size < 32:
            raise ValueError(f"condition_size={condition_size} is less than 32 pixels, the least side of a source.")
        self.condition_size = condition_size
        self.negative_prompt = negative_prompt
        if pipeline.config.sample_sigmas is not None:
            self.default_num_inference_steps = len(pipeline.config.sample_sigmas)

    @classmethod
    def load_pipeline(cls, model: str, **init_kwargs: Any) -> DiffusionPipeline:
        return super().load_pipeline(model, **with_processor(ImageOnlyQwen3VLProcessor, model, init_kwargs))

    @staticmethod
    def size_multiple_of(vae_config: Mapping[str, Any]) -> int:
        return 2 * vae_config["scale_factor_spatial"]  # a place of the encoder's is 2×2 pixels of latents

    def call_kwargs(self, height: int, width: int) -> dict[str, Any]:
        return super().call_kwargs(height, width) | {"output_resolution": self.condition_size}

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        return concatenate([self._encode_row(row, height, width) for row in rows])

    def _encode_row(self, row: dict[str, Any], height: int, width: int) -> Conditioning:
        pipeline, images = self.pipeline, [self._resized(image) for image in self.sources(row)]
        processor = pipeline.image_processor
        pixels = [processor.preprocess(image, image.height, image.width).unsqueeze(2) for image in images]
        channels = pipeline.transformer.config.in_channels
        _, latents = pipeline.prepare_latents(
            pixels or None, 1, channels, height, width, self.dtype, self.device, None, torch.empty(0)
        )
        if latents is None:
            latents = torch.zeros(1, 0, channels, dtype=self.dtype, device=self.device)
        sizes = [(height, width), *((image.height, image.width) for image in images)]
        conditioning = self._encode_prompt("prompt", row["prompt"], images)
        if 4 * int(conditioning["prompt_places"].sum()) != latents.shape[1]:
            raise ValueError(
                f"The processor of this {self.pipeline_class.__name__} resizes sources of "
                f"condition_size={self.condition_size} once more, and the network needs all of their latents; take a size "
                "between the least and the most pixels of its image processor."
            )
        if self.negative_prompt is not None:
            conditioning |= self._encode_prompt("negative", self.negative_prompt, images)
        return conditioning | {"source_latents": latents, "shapes": torch.tensor([sizes]) // pipeline.vae_scale_factor}

    def _resized(self, image: Image.Image) -> Image.Image:
        width, height, _ = calculate_dimensions(self.condition_size**2, image.width / image.height)
        return self.pipeline.image_processor.resize(image.convert("RGBA"), width=width, height=height)

    def _size_of_area(self, area: int, ratio: float) -> Size:
        width, height, *_ = calculate_dimensions(area, ratio)
        return max(round(height), 32), max(round(width), 32)

    def _encode_prompt(self, name: str, prompt: str, images: list[Image.Image]) -> Conditioning:
        embeds, _, places = self.pipeline.encode_prompt([prompt], images or None, self.device)
        length = torch.tensor([[embeds.shape[1]]])
        return {f"{name}_embeds": embeds, f"{name}_places": places, f"{name}_length": length}

    def sigmas(self, num_steps: int, height: int, width: int) -> torch.Tensor:
        own = self.pipeline.config.sample_sigmas
        if own is not None and len(own) != num_steps:
            raise ValueError(
                f"This {self.pipeline_class.__name__} has a schedule of {len(own)} steps of its own, and takes it whatever "
                f"number it is asked for. Use {len(own)} steps instead of {num_steps}, or call "
                "`pipe.register_to_config(sample_sigmas=None)` first."
            )
        scheduler, factor = self.pipeline.scheduler, self.pipeline.vae_scale_factor
        mu = resolution_shift(scheduler.config, (height // factor) * (width // factor))
        sigmas = np.linspace(1.0, 1 / num_steps, num_steps) if own is None else own
        return scheduler_sigmas(scheduler, num_steps, sigmas=sigmas, mu=mu)

    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        channels = self.pipeline.transformer.config.in_channels
        latents, _ = self.pipeline.prepare_latents(
            None, batch, channels, height, width, torch.float32, self.device, generator
        )
        return latents.contiguous()

    def velocity(
        self,
        model: torch.nn.Module,
        latents: torch.Tensor,
        sigma: torch.Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> torch.Tensor:
        def of_one_layout(latents: torch.Tensor, sigma: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
            length = int(conditioning["length"][0])
            # the target, and the sources before it; zeros where this row has fewer of them than others
            target, *shapes = [(1, *shape) for shape in conditioning["shapes"][0].tolist() if shape[0]]
            sources = conditioning["source_latents"][:, : sum(height * width for _, height, width in shapes)]
            places = conditioning["places"][:, :length]
            return model(
                hidden_states=torch.cat([sources, latents.to(self.dtype)], 1),
                # the pipeline rounds the timestep, not sigma, to the network's precision
                timestep=(sigma * 1000).to(self.dtype) / 1000,
                encoder_hidden_states=conditioning["embeds"][:, :length],
                img_shapes=[[*shapes, target]] * len(latents),
                img_mask=torch.cat([places, places.new_ones(len(places), latents.shape[1] // 4)], 1),
                return_dict=False,
            )[0][:, -latents.shape[1] :].float()

        branches = ["prompt", "negative"] if self.uses_cfg(guidance_scale) else ["prompt"]
        pictures = {name: conditioning[name] for name in ("source_latents", "shapes")}
        texts = [{n: conditioning[f"{branch}_{n}"] for n in ("embeds", "places", "length")} for branch in branches]
        both = concatenate([pictures | text for text in texts])
        keys = torch.cat([both["length"], both["shapes"].flatten(1)], 1)
        n = len(branches)
        predictions = in_groups(of_one_layout, model, keys, latents.repeat(n, 1, 1), sigma.repeat(n), both)
        return guided(predictions, guidance_scale) if n == 2 else predictions

    def to_pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        pipeline = self.pipeline
        unpacked = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
        pixels = decode_frame(pipeline.vae, unpacked)
        opacity = (pixels[:, 3:] + 1) / 2
        return pixels[:, :3] * opacity + (1 - opacity)  # over white, which is 1

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        opaque = torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1)
        return encode_frame(self.pipeline.vae, opaque).flatten(2).transpose(1, 2)
