"""Qwen-Image-Edit: `QwenImageEditPipeline` and `QwenImageEditPlusPipeline` (2509, 2511) as policies."""

from typing import Any

import torch
from diffusers import DiffusionPipeline, QwenImageEditPipeline, QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit import calculate_dimensions
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import CONDITION_IMAGE_SIZE
from PIL import Image

from ..data import Size
from ..image_only_processor import ImageOnlyProcessor
from .batching import Conditioning, concatenate
from .processors import with_processor
from .qwen_image import QwenImagePolicy
from .sources import single_source, source_images


class QwenImageEditPolicy(QwenImagePolicy):
    """
    Qwen-Image-Edit: Qwen-Image whose encoder reads the source beside the instruction, and whose transformer gets the
    source's latents behind those of the picture.

    Sources keep their aspect ratio, so rows of one batch may have source latents of different shapes; such rows go
    through the transformer one shape at a time.

    Args:
        pipeline ([`~diffusers.QwenImageEditPipeline`]):
            The pipeline.
        condition_size (`int`, *optional*, defaults to `1024`):
            Side, in pixels, of the square whose area the source is resized to. The pipeline always takes 1024,
            whatever it draws; 512 halves the cost of a forward at 512 pixels.
        negative_prompt (`str`, *optional*, defaults to `" "`):
            What guidance leads away from when `guidance_scale`, the pipeline's `true_cfg_scale`, is greater than 1.
            With `None` there is no guidance.
        max_cached_prompts (`int`, *optional*, defaults to `128`):
            How many encoded rows are kept in memory, with the latents of their sources.
    """

    pipeline_class = QwenImageEditPipeline
    editing = True
    encoded_together = 1  # over a thousand tokens each with its source: more at once are no faster

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        condition_size: int = 1024,
        negative_prompt: str | None = " ",
        max_cached_prompts: int = 128,
    ):
        # the pipeline takes instructions whole, however long they are
        super().__init__(pipeline, None, negative_prompt, max_cached_prompts)
        if condition_size < 32:
            raise ValueError(f"condition_size={condition_size} is less than 32 pixels, the least side of a source.")
        self.condition_size = condition_size

    @classmethod
    def load_pipeline(cls, model: str, **init_kwargs: Any) -> DiffusionPipeline:
        return super().load_pipeline(model, **with_processor(ImageOnlyProcessor, model, init_kwargs))

    def call_setup(self) -> str:
        if self.condition_size == 1024:
            return ""
        side = self.condition_size
        return (
            f"# Sources had the area of {side} × {side} pixels in training; the pipeline's call would give them 1024 × 1024.\n"
            + self._resizing(side)
        )

    def _resizing(self, side: int) -> str:
        return (
            "from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as own\n"
            "of_area = own.calculate_dimensions\n"
            f"own.calculate_dimensions = lambda area, ratio: of_area({side} * {side}, ratio)"
        )

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        name, otherwise = self.pipeline_class.__name__, "QwenImageEditPlusPipeline takes several"
        sources = [single_source(row, name, otherwise) for row in rows]
        images = [self._resized(source, self.condition_size**2) for source in sources]
        conditioning = self._encode_prompts("prompt", [row["prompt"] for row in rows], image=images)
        if self.negative_prompt is not None:
            conditioning |= self._encode_prompts("negative", [self.negative_prompt] * len(rows), image=images)
        conditioning |= concatenate([self._encode_sources([image], height, width) for image in images])
        self._check_length(rows, conditioning)
        return conditioning

    def encode_negative(self) -> Conditioning:
        return {}  # it is read with the source, so it is each row's own

    def _resized(self, image: Image.Image, area: int) -> Image.Image:
        width, height, *_ = calculate_dimensions(area, image.width / image.height)
        return self.pipeline.image_processor.resize(image, max(height, 32), max(width, 32))

    def _size_of_area(self, area: int, ratio: float) -> Size:
        width, height, *_ = calculate_dimensions(area, ratio)
        return max(round(height), 32), max(round(width), 32)

    def _encode_sources(self, images: list[Image.Image], height: int, width: int) -> Conditioning:
        """Source latents of one row, and the shapes of target and sources in latent patches."""
        preprocess = self.pipeline.image_processor.preprocess
        pixels = [preprocess(image, image.height, image.width).unsqueeze(2) for image in images]
        _, latents = self.pipeline.prepare_latents(
            pixels if len(pixels) > 1 else pixels[0],
            1,
            self._num_channels,
            height,
            width,
            self.dtype,
            self.device,
            None,
            torch.empty(0),  # instead of noise, which would move the global random state
        )
        sizes = [(height, width), *((image.height, image.width) for image in images)]
        return {"source_latents": latents, "shapes": torch.tensor([sizes]) // self.size_multiple}

    def _check_length(self, rows: list[dict[str, Any]], conditioning: Conditioning) -> None:
        # positions of the text begin behind those of the pictures
        longest = len(self.pipeline.transformer.pos_embed.pos_freqs) - int(conditioning["shapes"].max()) // 2
        for row, tokens in zip(rows, conditioning["prompt_mask"].sum(1).tolist(), strict=True):
            if tokens > longest:
                raise ValueError(
                    f"The prompt that begins with {row['prompt'][:80]!r} has {tokens} tokens with its pictures, and the "
                    f"transformer of {self.pipeline_class.__name__} has positions for {longest}; shorten it."
                )

    def initial_noise(
        self, batch: int, height: int, width: int, generator: torch.Generator | list[torch.Generator]
    ) -> torch.Tensor:
        latents, _ = self.pipeline.prepare_latents(
            None, batch, self._num_channels, height, width, torch.float32, self.device, generator
        )
        return latents


class QwenImageEditPlusPolicy(QwenImageEditPolicy):
    """
    Qwen-Image-Edit-2509 and -2511: one or several sources per row. The encoder reads them at 384 pixels squared,
    `condition_size` is that of their latents. See [`QwenImageEditPolicy`] for the arguments.
    """

    pipeline_class = QwenImageEditPlusPipeline
    default_num_inference_steps = 40

    def _resizing(self, side: int) -> str:
        return (
            "from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as own\n"
            f"own.VAE_IMAGE_SIZE = {side} * {side}"
        )

    def encode_rows(self, rows: list[dict[str, Any]], height: int, width: int) -> Conditioning:
        return concatenate([self._encode_row(row, height, width) for row in rows])  # the pipeline takes one prompt

    def _encode_row(self, row: dict[str, Any], height: int, width: int) -> Conditioning:
        images = source_images(row)
        seen = [self._resized(image, CONDITION_IMAGE_SIZE) for image in images]
        conditioning = self._encode_prompts("prompt", [row["prompt"]], image=seen)
        if self.negative_prompt is not None:
            conditioning |= self._encode_prompts("negative", [self.negative_prompt], image=seen)
        sources = [self._resized(image, self.condition_size**2) for image in images]
        conditioning |= self._encode_sources(sources, height, width)
        self._check_length([row], conditioning)
        return conditioning
