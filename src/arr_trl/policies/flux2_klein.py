"""FLUX.2-klein: `Flux2KleinPipeline` as a policy."""

from typing import Any

from diffusers import DiffusionPipeline, Flux2KleinPipeline

from .flux2 import Flux2Policy


class Flux2KleinPolicy(Flux2Policy):
    """
    FLUX.2-klein: FLUX.2 with Qwen3 as its encoder. The base models have classifier-free guidance against an empty
    prompt when `guidance_scale` is greater than 1; the distilled ones take no guidance. See [`Flux2Policy`] for the
    arguments and the references.
    """

    pipeline_class = Flux2KleinPipeline
    cfg_off_scale = 1.0

    def __init__(self, pipeline: DiffusionPipeline, max_sequence_length: int = 512, max_cached_prompts: int = 1024):
        super().__init__(pipeline, max_sequence_length, max_cached_prompts)
        self.negative_prompt = None if self.distilled else ""

    @property
    def distilled(self) -> bool:
        return self.pipeline.config.is_distilled

    def call_kwargs(self, height: int, width: int) -> dict[str, Any]:
        return {"max_sequence_length": self.max_sequence_length}  # the empty prompt is the pipeline's own

    def num_tokens(self, prompt: str) -> int:
        tokenizer = self.pipeline.tokenizer
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return len(tokenizer(text)["input_ids"])
