"""What a benchmark is: where its authors publish it, how one of its rows reads, and what its own leaderboard prints."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple


Row = dict[str, Any]
GITHUB = "https://raw.githubusercontent.com"


def a_list(value: Any) -> list:
    """
    Raises:
        `TypeError`: when a value is none: the letters of a text and the keys of an object would be read in its place.
    """
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


class Official(NamedTuple):
    """
    A figure of a benchmark's own leaderboard.

    Args:
        name (`str`): what it is called there.
        measure (`str`): the measure of [`~arr_trl.evaluation.judge_eval.JudgeEvaluation`] that it is.
        category (`str`, *optional*): the category that it is taken over; all by default.
    """

    name: str
    measure: str
    category: str | None = None


@dataclass(frozen=True)
class PromptSet:
    """
    Where a benchmark is, and how one of its rows reads.

    Args:
        name (`str`): what it is called here.
        task (`str`): `"text-to-image"` or `"image-editing"`.
        schema (`str`): the columns that are read, as its authors name them.
        row (`Callable`):
            A row of the file to `prompt`, `category`, `source_image` for editing, what `features` names and, in a set of
            labelled pairs, `images` and `label_rank`, with `label_group` and `label_group_size` where the comparisons of
            several rows count together; `None` for a row that does not belong.
        where (`str`): what to download for a local copy.
        repo (`str`, *optional*): dataset on the Hub.
        config (`str`, *optional*): configuration of that dataset.
        split (`str`, *optional*, defaults to `"train"`): split of that dataset.
        url (`str`, *optional*): file elsewhere; `{category}` stands for each of `categories`.
        categories (`tuple[str, ...]`, *optional*): files that the set is made of, one for each category.
        read (`Callable`, *optional*): reads the local copy where it is more than the rows of one file.
        features (`Mapping`, *optional*): further columns that its prompts have, with the type that `datasets` needs.
        pairs (`bool`, *optional*, defaults to `False`): whether the rows are labelled pairs.
        ties (`bool`, *optional*, defaults to `False`): whether pairs that people found level count there.
        official (`tuple[Official, ...]`, *optional*): what its leaderboard prints.
    """

    name: str
    task: Literal["text-to-image", "image-editing"]
    schema: str
    row: Callable[[Row], Row | None]
    where: str
    repo: str | None = None
    config: str | None = None
    split: str = "train"
    url: str | None = None
    categories: tuple[str, ...] = ()
    read: Callable[[Path], Iterable[Row]] | None = None
    features: Mapping[str, Any] = field(default_factory=dict)
    pairs: bool = False
    ties: bool = False
    official: tuple[Official, ...] = ()
