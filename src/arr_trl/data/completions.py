"""Pairs from the tables that `log_completions` wrote: what a run judged is data for another one."""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError
from pyarrow import ArrowInvalid

from ..hub_errors import hub_problem


_AT_ONCE = 64  # rows in memory; each has a picture


def find_completions(source: str, token: str | None = None) -> list[Path]:
    """
    The tables of a run, in the order of its steps.

    Args:
        source (`str`): the run's output folder, its folder `completions`, or the dataset on the Hub that
            `log_completions_hub_repo` named, of which the tables are downloaded.
        token (`str`, *optional*): token that may read it.

    Raises:
        `FileNotFoundError`: when there are none.
        `ConnectionError`: when the dataset cannot be downloaded.
    """
    folder = Path(source)
    if not folder.exists():
        try:
            folder = Path(
                snapshot_download(source, repo_type="dataset", allow_patterns="**/step_*.parquet", token=token)
            )
        except HFValidationError:
            raise FileNotFoundError(
                f"There is no folder {source}; name the output folder of a run with `log_completions`, or a dataset on "
                "the Hub."
            ) from None
        except (HTTPError, OSError) as error:
            raise ConnectionError(
                f"The completions {source} could not be read: {hub_problem(error, source)}"
            ) from error
    files = sorted(folder.rglob("step_*.parquet"))
    if not files:
        raise FileNotFoundError(
            f"{source} holds no tables step_*.parquet; a run writes them with `log_completions: true`."
        )
    return files


def pairs_of_completions(
    files: list[Path],
    left_out: Counter,
    pairs: Literal["extremes", "all", "ranking"] = "extremes",
    min_margin: float = 0.0,
) -> Iterator[dict[str, Any]]:
    """
    Rows for [`~arr_trl.release.pairs.write_pairs`]. What was worth more in the run's loss, its `advantage`, is preferred,
    so that several reward functions and their weights count as they did there.

    Args:
        files (`list[Path]`): tables of a run.
        left_out (`Counter`): counts what is left out, by reason.
        pairs (`str`, *optional*, defaults to `"extremes"`):
            Of a prompt's candidates the best against the worst, `"all"` pairs that differ, or all of them as a
            `"ranking"`.
        min_margin (`float`, *optional*, defaults to `0.0`):
            Leave out verdicts that were less clear, where the judge told how clear they were.

    Raises:
        `ValueError`: when a file cannot be read, or has no advantages.
    """
    for group in (group for file in files for group in _groups(file)):
        worth = [math.nan if row["advantage"] is None else row["advantage"] for row in group]
        margin = group[0].get("judge_margin")
        if any(map(math.isnan, worth)) or len(set(worth)) == 1:
            left_out["prompts without a decision"] += 1
        elif margin is not None and margin < min_margin:
            left_out[f"prompts with a margin under {min_margin:g}"] += 1
        elif pairs == "ranking":
            ranks = [1.0 + sum(other > one for other in worth) for one in worth]
            yield _common(group) | {"images": [row["image"] for row in group], "label_rank": ranks}
        else:
            order = sorted(range(len(group)), key=lambda i: -worth[i])
            ends = [(order[0], order[-1])]
            for i, j in combinations(order, 2) if pairs == "all" else ends:
                if worth[i] == worth[j]:
                    left_out["level pairs"] += 1
                elif group[i]["image"]["bytes"] == group[j]["image"]["bytes"]:
                    left_out["pairs of identical pictures"] += 1
                else:
                    yield _common(group) | _pair(group[i], group[j])


def _groups(file: Path) -> Iterator[list[dict[str, Any]]]:
    """The candidates of a prompt, which stand one after the other."""
    try:
        table = pyarrow.parquet.ParquetFile(file)
        missing = {"prompt", "candidate", "image", "advantage"} - set(table.schema_arrow.names)
        if missing:
            raise ValueError(f"{file} has no column `{min(missing)}`; it is no table of `log_completions`.")
        group: list[dict[str, Any]] = []
        for batch in table.iter_batches(batch_size=_AT_ONCE):
            for row in batch.to_pylist():
                if row["candidate"] == 1 and group:
                    yield group
                    group = []
                group.append(row)
        if group:
            yield group
    except (ArrowInvalid, OSError) as error:
        raise ValueError(f"{file} cannot be read as parquet ({error}); remove it or take a whole copy.") from error


def _common(group: list[dict[str, Any]]) -> dict[str, Any]:
    first = group[0]
    named = {"rationale": "judge_reason", "margin": "judge_margin", "judge": "judge", "rubric": "rubric"}
    row = {"prompt": first["prompt"], "step": first["step"]} | {new: first.get(old) for new, old in named.items()}
    return row | {name: first[name] for name in ("source_image", "mask_image") if name in first}


def _pair(chosen: dict[str, Any], rejected: dict[str, Any]) -> dict[str, Any]:
    row = {}
    for name, candidate in (("chosen", chosen), ("rejected", rejected)):
        row |= {name: candidate["image"], f"{name}_candidate": candidate["candidate"]}
        if candidate.get("noise_seed") is not None:
            row[f"{name}_noise"] = [candidate["noise_seed"], candidate["noise_draw"]]
    return row
