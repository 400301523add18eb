"""
The reward protocol: what a function is given, and what it gave back, read strictly. A wrong shape is told in a sentence
that names the function. Trainers, evaluation and commands read it here and nowhere else.
"""

import asyncio
import inspect
import reprlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from trl.trainer.utils import get_callable_name


RewardFunc = Callable[..., list[float | None]]


class RewardError(ValueError):
    """A reward function returned something that is not one reward per picture."""


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """The rows as keyword arguments of a function: the prompts, and the dataset's other columns by name."""
    return {"prompts" if name == "prompt" else name: [row[name] for row in rows] for name in rows[0]}


def call(func: Callable, /, **arguments: Any) -> Any:
    """What a function returns, waited for where it is async."""
    output = func(**arguments)
    return asyncio.run(_wait_for(output)) if inspect.isawaitable(output) else output


async def _wait_for(output: Awaitable) -> Any:
    return await output


def read_rewards(output: Any, name: str, count: int) -> torch.Tensor:
    """
    Rewards `[count]` in float32, NaN where there is none; see [`reward_list`].
    """
    rewards = reward_list(output, name, count)
    return torch.tensor([torch.nan if reward is None else reward for reward in rewards], dtype=torch.float32)


def reward_list(output: Any, name: str, count: int) -> list[float | None]:
    """
    One reward per picture, `None` where there is none or it is no number (NaN).

    Args:
        output (`Any`): what the reward function `name` returned for `count` pictures: a list, an array or a tensor.
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
    rewards: list[float | None] = []
    for i, reward in enumerate(output):
        try:
            if isinstance(reward, str):  # `float` would read it
                raise TypeError
            number = None if reward is None else float(reward)
        except (TypeError, ValueError):
            raise RewardError(
                f"The reward function {name!r} returned {_shown(reward)} for image {i}; {wanted}"
            ) from None
        rewards.append(None if number != number else number)
    return rewards


def met_criteria(
    eval_funcs: Sequence[Callable], rows: Sequence[Mapping[str, Any]], images: Sequence[Image.Image]
) -> list[dict[str, bool]]:
    """
    What ground truths found in each picture, the criteria of all of them in one dictionary.

    Args:
        eval_funcs (`Sequence[Callable]`): each returns one dictionary of criteria per picture.
        rows (`Sequence[dict]`): the row of each picture.
        images (`Sequence[PIL.Image.Image]`): the pictures.

    Raises:
        `ValueError`: when one returned something else.
    """
    columns = columns_of(rows)
    checks: list[dict[str, bool]] = [{} for _ in images]
    for func in eval_funcs:
        output = call(func, completions=images, **columns)
        if not (
            isinstance(output, list | tuple)
            and len(output) == len(images)
            and all(isinstance(found, Mapping) for found in output)
        ):
            raise ValueError(
                f"The evaluation function {get_callable_name(func)!r} returned {reprlib.repr(output)} for "
                f"{len(images)} images; it has to return one dictionary of criteria, true or false, per image."
            )
        for check, found in zip(checks, output, strict=True):
            check.update({name: bool(truth) for name, truth in found.items()})
    return checks


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"a {type(value).__name__}"
