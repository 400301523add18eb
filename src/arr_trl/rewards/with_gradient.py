"""Reward functions that take pixels and give a gradient: what they are given, and what they gave back, read strictly."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from .failures import RewardError
from .scorer import ModelScorer


# `f(prompts, pixels, **columns)`, pixels `[B, 3, H, W]` from 0 to 1, returns rewards `[B]` with gradient.
PixelRewardFunc = Callable[..., torch.Tensor]

BASE_PIXELS = "base_pixels"


def asks_for_base_pixels(func: PixelRewardFunc) -> bool:
    """Whether a function names `base_pixels`, the pictures of the base from the same noise, among its arguments."""
    return BASE_PIXELS in inspect.signature(func).parameters


def pixel_rewards(func: PixelRewardFunc, name: str, pixels: torch.Tensor, columns: Mapping[str, Any]) -> torch.Tensor:
    """
    Rewards `[B]` in float32 of pictures, NaN or infinite where there is none.

    Args:
        func (`Callable`): the reward function, or a scorer with its model in this process.
        name (`str`): its name.
        pixels (`torch.Tensor`): `[B, 3, H, W]`, 0 to 1.
        columns (`Mapping[str, Any]`): what else it is given: `prompts`, and the other columns by name.

    Raises:
        [`RewardError`]: when it returned no tensor of one number per picture, or one without the gradient that `pixels` have.
    """
    rewards = (func.score_pixels if isinstance(func, ModelScorer) else func)(pixels=pixels, **columns)
    count = len(pixels)
    if not isinstance(rewards, torch.Tensor) or rewards.shape != (count,):
        found = (
            f"a tensor {list(rewards.shape)}" if isinstance(rewards, torch.Tensor) else f"a {type(rewards).__name__}"
        )
        raise RewardError(
            f"The reward function {name!r} returned {found} for {count} pictures; it has to return a tensor [{count}], a "
            "number for each."
        )
    if pixels.requires_grad and torch.is_grad_enabled() and not rewards.requires_grad:
        raise RewardError(
            f"What the reward function {name!r} returned has no gradient: somewhere it leaves torch, detaches, or runs "
            "under no_grad. To train on rewards without one take RPOTrainer, FlowGRPOTrainer or DiffusionNFTTrainer."
        )
    return rewards.float()
