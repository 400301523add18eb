"""Rows of which a part is drawn anew: their `mask_image`, white where it is drawn and black where it stays."""

from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from ..data import MASK_COLUMN, load_image


def mask_of(row: dict[str, Any]) -> Image.Image:
    """
    The picture in a row's `mask_image`, whatever it is kept as.

    Raises:
        `ValueError`: when there is none, several, or one that cannot be read.
    """
    found = row.get(MASK_COLUMN)
    if found is None or isinstance(found, list | tuple):
        raise ValueError(
            f"The row with the prompt {row['prompt']!r} has {found!r} as `mask_image`; this pipeline needs one picture, white "
            "where the source is drawn anew and black where it stays."
        )
    try:
        return load_image(found)
    except ValueError as error:
        raise ValueError(
            f"The row with the prompt {row['prompt']!r} has a `mask_image` that cannot be used: {error}"
        ) from error


def packed_noise(
    pipeline: DiffusionPipeline,
    batch: int,
    channels: int,
    height: int,
    width: int,
    device: torch.device,
    generator: torch.Generator | list[torch.Generator],
) -> torch.Tensor:
    """
    Noise `[B, L, C]` in float32 of a pipeline whose own way to draw it begins with an encoded picture, which it samples with
    the same generator. Here a picture is the mode of what the encoder predicts, always the same, and the noise is the first
    that the generator gives.
    """
    size = height // pipeline.vae_scale_factor, width // pipeline.vae_scale_factor
    noise = randn_tensor((batch, channels, *size), generator=generator, device=device, dtype=torch.float32)
    return pipeline._pack_latents(noise, batch, channels, *size)
