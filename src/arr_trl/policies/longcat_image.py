"""LongCat-Image: `LongCatImagePipeline` as a policy."""

from typing import Any

import torch
from diffusers import DiffusionPipeline, LongCatImagePipeline

from .batching import Conditioning
from .guidance import guided
from .processors import with_processor
from .qwen_image_edit import ImageOnlyProcessor
from .text_positions import TextPositionsPolicy


class LongCatImagePolicy(TextPositionsPolicy):
    """
    LongCat-Image: Qwen2.5-VL as the only encoder, what stands in quotes read letter by letter, a transformer as FLUX.1's,
    classifier-free guidance whose result is scaled down to the norm of the conditional prediction where it is larger.

    The pipeline's call rewrites prompts with its encoder unless it is told not to; here they are taken as they are, and the
    model card says `enable_prompt_rewrite=False`.

    Args:
        pipeline ([`~diffusers.LongCatImagePipeline`]):
            The pipeline. Its `tokenizer_max_length`, 512, is how many tokens of a prompt it takes; padding is not masked.
        negative_prompt (`str`, *optional*, defaults to `""`):
            What guidance leads away from when `guidance_scale` is greater than 1. With `None` there is no guidance.
        max_cached_prompts (`int`, *optional*, defaults to `1024`):
            How many encoded prompts are kept in memory.
    """

    pipeline_class = LongCatImagePipeline
    default_guidance_scale = 4.5

    def __init__(
        self,
        pipeline: LongCatImagePipeline,
        negative_prompt: str | None = "",
        max_cached_prompts: int = 1024,
    ):
        super().__init__(pipeline, pipeline.tokenizer_max_length, negative_prompt, max_cached_prompts)

    @classmethod
    def load_pipeline(cls, model: str, **init_kwargs: Any) -> DiffusionPipeline:
        return super().load_pipeline(model, **with_processor(ImageOnlyProcessor, model, init_kwargs, "text_processor"))

    def call_kwargs(self, height: int, width: int) -> dict[str, Any]:
        negative = {} if self.negative_prompt is None else {"negative_prompt": self.negative_prompt}
        return negative | {"enable_prompt_rewrite": False}

    def _encode_prompts(self, name: str, prompts: list[str]) -> Conditioning:
        embeds, text_ids = self.pipeline.encode_prompt(prompts)
        ids = text_ids.expand(len(prompts), -1, -1)
        return {f"{name}_embeds": embeds.to(self.device), f"{name}_ids": ids.to(self.device)}

    def _guided(self, predictions: torch.Tensor, guidance_scale: float) -> torch.Tensor:
        conditional, combined = predictions.chunk(2)[0], guided(predictions, guidance_scale)
        ratio = conditional.norm(dim=-1, keepdim=True) / (combined.norm(dim=-1, keepdim=True) + 1e-8)
        return combined * ratio.clamp(0, 1)
