"""
What a reward function is given, and what it gave back, read strictly: a wrong shape is told in a sentence that names the
function.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


class RewardError(ValueError):
    """A reward function returned something that is not one reward per picture."""


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list]:
    """The rows as keyword arguments of a function: the prompts, and the dataset's other columns by name."""
    return {"prompts" if name == "prompt" else name: [row[name] for row in rows] for name in rows[0]}


def read_rewards(output: Any, name: str, count: int) -> torch.Tensor:
    """
    Rewards `[count]` in float32, NaN where there is none.

    Args:
        output (`Any`): what the reward function `name` returned for `count` pictures.
        name (`str`): its name.
        count (`int`): number of pictures.

    Raises:
        [`RewardError`]: when it is not one number or `None` for each picture.
    """
    wanted = "it has to return one number per image, `None` where it has none."
    if isinstance(output, torch.Tensor | np.ndarray):
        output = output.tolist()
    if isinstance(output, str | bytes) or not isinstance(output, Sequence):
        raise RewardError(f"The reward function {name!r} returned {_shown(output)} for {count} images; {wanted}")
    if len(output) != count:
        raise RewardError(f"The reward function {name!r} returned {len(output)} rewards for {count} images; {wanted}")
    rewards = torch.full((count,), torch.nan)
    for i, reward in enumerate(output):
        try:
            if isinstance(reward, str):  # `float` would read it
                raise TypeError
            rewards[i] = torch.nan if reward is None else float(reward)
        except (TypeError, ValueError):
            raise RewardError(
                f"The reward function {name!r} returned {_shown(reward)} for image {i}; {wanted}"
            ) from None
    return rewards


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"a {type(value).__name__}"
