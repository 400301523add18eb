"""Between pictures and their pixels as tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from ..rgb import as_rgb


def as_pixels(images: Sequence[Image.Image], device: torch.device) -> torch.Tensor:
    """Pixels `[B, 3, H, W]` from 0 to 1 of pictures of one size."""
    stacked = np.stack([np.asarray(as_rgb(image), dtype=np.float32) for image in images])
    return torch.from_numpy(stacked).to(device).movedim(-1, 1) / 255


def as_pictures(pixels: torch.Tensor) -> list[Image.Image]:
    """Pictures of pixels `[B, 3, H, W]` from 0 to 1, rounded as a pipeline rounds its own."""
    return VaeImageProcessor.numpy_to_pil(VaeImageProcessor.pt_to_numpy(pixels.float()))
