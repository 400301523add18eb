"""What several commands refuse before they ask or draw anything."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..folders import check_writable


if TYPE_CHECKING:
    from ..judges import JudgeReward


def check_limit(limit: int | None) -> None:
    """
    Refuse a number of rows that is none.

    Args:
        limit (`int`, *optional*): how many rows to take; unset, all of them.

    Raises:
        `ValueError`: when `limit` takes nothing.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} has to be at least 1.")


def check_file(path: str) -> None:
    """
    Refuse an output that no file can be written to, and make the folder it is in.

    Args:
        path (`str`): what was given as `output`.

    Raises:
        `ValueError`: when `path` is a folder.
        `OSError`: when the folder it is in cannot be written to.
    """
    if Path(path).is_dir():
        raise ValueError(f"output={path} is a folder; name a file in it.")
    check_writable(Path(path).parent, "output")


def check_pairs_suffice(judge: "JudgeReward") -> None:
    """
    Refuse a judge that labelled pairs do not have enough for.

    Args:
        judge ([`~arr_trl.judges.JudgeReward`]): who is to be measured on pairs.

    Raises:
        `ValueError`: when a preset needs columns of the dataset beside prompt, source and pictures.
    """
    for preset in judge.presets:
        if preset.columns:
            raise ValueError(
                f"The preset {preset.name} needs a column {preset.columns[0]!r}, which labelled pairs do not have; it cannot be "
                "measured on them. `arr-trl judge try` asks it about one picture."
            )
