"""
What a model in process thinks of a choice, with the gradient of the pixels that it looks at. For Qwen2.5-VL and Qwen3-VL,
whose image processor is a resize, a normalization and a cut into patches.
"""

from typing import Any

import torch
from torch.nn.functional import interpolate

from .base import ChatRequest
from .local import LocalChatModel


def choice_logprobs(
    model: LocalChatModel, request: ChatRequest, pixels: list[torch.Tensor | None]
) -> dict[str, torch.Tensor]:
    """
    Log-probabilities of the choices as first token of the reply, those that [`~LocalChatModel.complete`] gives.

    The network looks at what the processor makes of the pictures in the request, so that the values are the model's own;
    their gradient is that of the same processing done on tensors.

    Args:
        model ([`LocalChatModel`]): the model.
        request ([`ChatRequest`]): a request with `choices`.
        pixels (`list[torch.Tensor]`):
            Of each picture in the request, in order, its pixels `[3, H, W]` from 0 to 1 that a gradient is wanted for, or
            `None`.

    Returns:
        `dict[str, torch.Tensor]`: `[]` for each choice, float32.

    Raises:
        `ValueError`: when the model has another image processor.
    """
    check_processor(model)
    inputs = model.inputs_of([request])
    patches, begin = inputs["pixel_values"].clone(), 0
    for grid, of_one in zip(inputs["image_grid_thw"].tolist(), pixels, strict=True):
        place = slice(begin, begin := begin + grid[0] * grid[1] * grid[2])
        if of_one is not None:
            made = patches_of(of_one.to(model.device), grid[1:], model.processor.image_processor).to(patches.dtype)
            patches[place] = made + (patches[place] - made).detach()
    inputs["pixel_values"] = patches
    logprobs_V = model.vlm(**inputs, use_cache=False, logits_to_keep=1).logits[0, -1].float().log_softmax(-1)
    return {choice: logprobs_V[model.tokens_of(choice)].logsumexp(0) for choice in request.choices}


def check_processor(model: LocalChatModel) -> None:
    """
    Raises:
        `ValueError`: when the image processor of a model is none that is done on tensors here.
    """
    processor = model.processor.image_processor
    if not type(processor).__name__.startswith("Qwen2VLImageProcessor"):
        raise ValueError(
            f"The pictures of {model.model} go through {type(processor).__name__}, and a gradient is passed back through that "
            "of Qwen2.5-VL and Qwen3-VL alone; take one of those."
        )


def patches_of(pixels: torch.Tensor, grid: list[int], processor: Any) -> torch.Tensor:
    """
    What the image processor of Qwen's vision-language models makes of a picture, on tensors.

    Args:
        pixels (`torch.Tensor`): `[3, H, W]`, 0 to 1.
        grid (`list[int]`): patches in height and width.
        processor (`Any`): the image processor, for sizes and the normalization.

    Returns:
        `torch.Tensor`: `[patches, 3 · frames · side · side]`, those that are merged into one token next to each other.
    """
    side, merged = processor.patch_size, processor.merge_size
    size = [n * side for n in grid]
    if list(pixels.shape[1:]) != size:
        pixels = interpolate(pixels[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
    mean, std = (
        torch.tensor(values).to(pixels).view(3, 1, 1) for values in (processor.image_mean, processor.image_std)
    )
    cut = ((pixels - mean) / std).unflatten(2, (-1, merged, side)).unflatten(1, (-1, merged, side))
    blocks = cut.permute(1, 4, 2, 5, 0, 3, 6).flatten(0, 3)  # [patches, 3, side, side]
    return (
        blocks[:, :, None].expand(-1, -1, processor.temporal_patch_size, -1, -1).flatten(1)
    )  # a still picture's frames
