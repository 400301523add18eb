"""What a pipeline cannot take, told in a sentence."""

import logging
import re
from collections.abc import Mapping
from pathlib import PurePath

from ..folders import hub_name


logger = logging.getLogger(__name__)
# Of a model's name, as words of it: not of `Z-Image-De-Turbo`, nor of `hyperreal`.
DISTILLED = re.compile(r"(?<![a-z])(?<!de[-_])(turbox?|schnell|lightning|hyper([-_]?sd)?)(?![a-z])", re.IGNORECASE)


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


def named_distilled(model: str | None) -> bool:
    """Whether a model id or the last part of a path says that the model was distilled to few steps."""
    return DISTILLED.search(PurePath(hub_name(model or "")).name) is not None


def warn_of_distillation(model: str) -> None:
    """Tell that training undoes what distilled `model` to few steps."""
    logger.warning(
        "%s was distilled to few steps. Training treats it as a flow that many steps follow, which it is not: pictures "
        "become blurry, and may collapse (https://github.com/NVlabs/DiffusionNFT/issues/45). Train the base that it was "
        "distilled from, such as FLUX.1-dev, FLUX.2-klein-base, Z-Image or SD3.5-large.",
        model,
    )
