"""
The reward protocol: what a function is given, and what it gave back, read strictly. A wrong shape is told in a sentence
that names the function. Trainers, evaluation and commands read it here and nowhere else.
"""

import asyncio
import inspect
import math
import reprlib
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .failures import RewardError


if TYPE_CHECKING:
    import torch


RewardFunc = Callable[..., list[float | None]]

# What functions are given beside the columns of the dataset; `self` is where a judge is a method.
ARGUMENTS = ("prompts", "completions", "num_generations", "trainer_state", "log_extra", "log_metric", "self")


def get_callable_name(func: Callable) -> str:
    """What a function is filed under in logs, as TRL names them."""
    from trl.trainer.utils import get_callable_name as named  # which imports all that a trainer of TRL may need

    return named(func)


def check_columns(names: Iterable[str], dataset: str) -> None:
    """
    Refuse columns that would take the place of what the protocol itself gives to a function.

    Args:
        names (`Iterable[str]`): columns of the dataset.
        dataset (`str`): what it is called in the error.

    Raises:
        `ValueError`: when one has such a name.
    """
    taken = [name for name in names if name in ARGUMENTS]
    if taken:
        raise ValueError(
            f"{dataset} has a column {taken[0]!r}, and reward functions get something else under this name; rename the "
            f"column, for example with `rename_column({taken[0]!r}, 'my_{taken[0]}')`"
            + (", or name it as `prompt_column` if it holds the prompts." if taken[0] == "prompts" else ".")
        )


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """
    The rows as keyword arguments of a function: the prompts, and the dataset's other columns by name.

    Raises:
        `ValueError`: when a column has the name of something else that functions are given; see [`check_columns`].
    """
    check_columns(rows[0], "The dataset")
    return {"prompts" if name == "prompt" else name: [row[name] for row in rows] for name in rows[0]}


def call(func: Callable, /, **arguments: Any) -> Any:
    """What a function returns, waited for where it is async."""
    output = func(**arguments)
    if not inspect.isawaitable(output):
        return output
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_wait_for(output))
    # inside a loop, as in a cell of a notebook: this thread's is busy with us
    with ThreadPoolExecutor(1, thread_name_prefix="arr_trl-reward") as pool:
        return pool.submit(asyncio.run, _wait_for(output)).result()


async def _wait_for(output: Awaitable) -> Any:
    return await output


def read_rewards(output: Any, name: str, count: int) -> "torch.Tensor":
    """
    Rewards `[count]` in float32, NaN where there is none; see [`reward_list`].
    """
    rewards = reward_list(output, name, count)
    import torch  # which a list of rewards alone does not need

    return torch.tensor([torch.nan if reward is None else reward for reward in rewards], dtype=torch.float32)


def reward_list(output: Any, name: str, count: int) -> list[float | None]:
    """
    One reward per picture, `None` where there is none or it is no finite number.

    Args:
        output (`Any`): what the reward function `name` returned for `count` pictures: a list, an array or a tensor.
        name (`str`): its name.
        count (`int`): number of pictures.

    Raises:
        [`RewardError`]: when it is not one number or `None` for each picture.
    """
    wanted = "it has to return one number per image, `None` where it has none."
    torch = sys.modules.get("torch")  # without which nothing is a tensor
    if isinstance(output, np.ndarray) or (torch is not None and isinstance(output, torch.Tensor)):
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
        rewards.append(number if number is not None and math.isfinite(number) else None)
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
