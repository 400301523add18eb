"""Prompt rows: a `prompt` column of text, and any other columns, which pass through to the reward functions."""

from itertools import islice
from typing import Any

from datasets import Dataset, IterableDataset


def check_prompts(dataset: Dataset | IterableDataset, name: str) -> None:
    """
    Find rows that cannot be trained on before anything is loaded. Of a stream only the first row is looked at.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): rows with a `prompt` column.
        name (`str`): what the dataset is called in the error.

    Raises:
        `ValueError`: when there are no rows, no `prompt` column, or a prompt that is not text; the row is named.
    """
    streaming = isinstance(dataset, IterableDataset)
    if not streaming and len(dataset) == 0:
        raise ValueError(f"{name} is empty; it needs at least one row with a `prompt`.")
    columns = dataset.column_names
    first = next(iter(dataset), None) if streaming else None
    if streaming and first is None:
        raise ValueError(f"{name} is empty; it needs at least one row with a `prompt`.")
    if columns is None:
        columns = list(first)
    if "prompt" not in columns:
        raise ValueError(
            f"{name} has no `prompt` column, only {', '.join(map(repr, columns))}; rename the column that holds the "
            "prompts, or name it with `prompt_column`."
        )
    prompts = [first["prompt"]] if streaming else dataset["prompt"]
    bad = ((i, prompt) for i, prompt in enumerate(prompts) if not is_prompt(prompt))
    for i, prompt in islice(bad, 1):
        raise ValueError(f"Row {i} of {name} has the prompt {prompt!r}; a prompt has to be text that is not empty.")


def is_prompt(value: Any) -> bool:
    """Whether a row with this `prompt` can be trained on: text that is not empty."""
    return isinstance(value, str) and bool(value.strip())
