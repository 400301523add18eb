"""Ovis-Image: `OvisImagePipeline` as a policy."""

from diffusers import OvisImagePipeline

from .batching import Conditioning
from .text_positions import TextPositionsPolicy


class OvisImagePolicy(TextPositionsPolicy):
    """
    Ovis-Image: Qwen3 as the only encoder, a transformer as FLUX.1's, classifier-free guidance.

    Args:
        pipeline ([`~diffusers.OvisImagePipeline`]):
            The pipeline.
        max_sequence_length (`int`, *optional*, defaults to `256`):
            Text tokens per prompt and what the chat template has behind it, as in `OvisImagePipeline.__call__`. Padding is
            not masked, so pictures depend on it.
        negative_prompt (`str`, *optional*, defaults to `""`):
            What guidance leads away from when `guidance_scale` is greater than 1. With `None` there is no guidance.
        max_cached_prompts (`int`, *optional*, defaults to `1024`):
            How many encoded prompts are kept in memory.
    """

    pipeline_class = OvisImagePipeline
    default_guidance_scale = 5.0

    def __init__(
        self,
        pipeline: OvisImagePipeline,
        max_sequence_length: int = 256,
        negative_prompt: str | None = "",
        max_cached_prompts: int = 1024,
    ):
        super().__init__(pipeline, max_sequence_length, negative_prompt, max_cached_prompts)

    def num_tokens(self, prompt: str) -> int:
        (message,) = self.pipeline._get_messages(prompt)
        tokens = self.pipeline.tokenizer(message, add_special_tokens=False)["input_ids"]
        return len(tokens) - self.pipeline.user_prompt_begin_id

    def _encode_prompts(self, name: str, prompts: list[str]) -> Conditioning:
        embeds, _, text_ids, _ = self.pipeline.encode_prompt(
            prompts,
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self.max_sequence_length,
        )
        return {f"{name}_embeds": embeds, f"{name}_ids": text_ids.expand(len(prompts), -1, -1)}
