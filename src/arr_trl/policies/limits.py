"""What a pipeline cannot take, told in a sentence."""

import logging
from collections.abc import Mapping


logger = logging.getLogger(__name__)


def check_sizes(sizes: Mapping[str, int], multiple: int, pipeline: str) -> None:
    """
    Raises:
        `ValueError`: when one of `sizes`, settings by their names, is no multiple of `multiple` pixels.
    """
    for name, value in sizes.items():
        if value < multiple or value % multiple:
            below = max(value, 0) // multiple * multiple
            options = f"{below} or {below + multiple}" if below else f"{multiple}"
            raise ValueError(
                f"{name}={value} does not divide by {multiple}, the latent patch of {pipeline}; use {options}."
            )


def warn_of_cut_prompts(prompts: Mapping[str, int], max_sequence_length: int, pipeline: str) -> None:
    """Tell of prompts whose end the encoder does not see; `prompts` has the number of tokens of each."""
    for prompt, num_tokens in prompts.items():
        if num_tokens > max_sequence_length:
            logger.warning(
                "The prompt %r has %d tokens, and `max_sequence_length=%d` of %s cuts the rest off; shorten it, or "
                "raise `max_sequence_length` as far as the pipeline allows.",
                prompt if len(prompt) < 100 else f"{prompt[:99]}…",
                num_tokens,
                max_sequence_length,
                pipeline,
            )
