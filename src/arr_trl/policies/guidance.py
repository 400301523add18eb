"""Classifier-free guidance."""

import torch


def guided(predictions: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """
    Lead away from what the network predicts for the negative prompt ([paper](https://huggingface.co/papers/2207.12598)).

    Args:
        predictions (`torch.Tensor`): `[2B, L, C]`, those of the prompts before those of the negative prompt.
        guidance_scale (`float`): 1 is the prediction for the prompts alone.

    Returns:
        `torch.Tensor`: `[B, L, C]`.
    """
    conditional, negative = predictions.chunk(2)
    return negative + guidance_scale * (conditional - negative)


def guided_at_its_norm(predictions: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """[`guided`], scaled back token by token to the norm of the prediction for the prompts, as Qwen-Image and Lumina 2 do it."""
    conditional, combined = predictions.chunk(2)[0], guided(predictions, guidance_scale)
    return combined * (conditional.norm(dim=-1, keepdim=True) / combined.norm(dim=-1, keepdim=True))
