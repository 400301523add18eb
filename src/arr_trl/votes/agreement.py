"""How far raters agree with each other, and with the label that a pair came with, which is often a judge's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.agreement import kappa_of_counts
from ..intervals import bootstrap_interval, resampled_sums
from ..text_files import lines_of, read_json, read_text


GIVEN = "label that came with the pair"
_RESAMPLES = 1000
_NAMES = {(1, 2): 0, (2, 1): 1, (1, 1): 2}  # the first, the second, a tie


@dataclass(frozen=True)
class TwoRaters:
    """
    How two raters agree.

    Args:
        names (`tuple[str, str]`): who.
        pairs (`int`): pairs that both have labelled.
        same (`float`): share of them on which both said the same, ties included.
        kappa (`float`, *optional*): Cohen's κ, beyond chance; `None` where it is not defined.
        interval (`tuple[float, float]`, *optional*): its 95% interval, pairs resampled; `None` of fewer than 2 pairs.
    """

    names: tuple[str, str]
    pairs: int
    same: float
    kappa: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class VotesAgreement:
    """
    What votes say together.

    Args:
        raters (`dict[str, dict[str, int]]`): how many votes each has cast, and how many of them are ties.
        between (`list[TwoRaters]`): every two raters that share pairs.
        with_labels (`list[TwoRaters]`): every rater and the labels that pairs came with, and a judge where one was asked.
        models (`dict[str, dict]`): where two models drew the pairs, the share of votes for the second, with its interval.
    """

    raters: dict[str, dict[str, int]]
    between: list[TwoRaters]
    with_labels: list[TwoRaters]
    models: dict[str, dict[str, Any]]


def agreement_of(
    rows: Sequence[Mapping[str, Any]], judged: Mapping[str, Mapping[str, int]] | None = None
) -> VotesAgreement:
    """
    Args:
        rows (`Sequence[dict]`): rows of votes.
        judged (`dict`, *optional*): what further judges said, by name and key of the pair: 0, 1, or 2 for a tie.
    """
    said: dict[str, dict[str, int]] = {}
    given: dict[str, int] = {}
    for row in rows:
        said.setdefault(row["rater"], {})[row["pair"]] = _NAMES[tuple(row["label_rank"])]
        if row.get("given_rank"):
            given[row["pair"]] = _NAMES[tuple(row["given_rank"])]
    labels = ({GIVEN: given} if given else {}) | dict(judged or {})
    return VotesAgreement(
        raters={
            name: {"votes": len(votes), "ties": sum(choice == 2 for choice in votes.values())}
            for name, votes in said.items()
        },
        between=_compared([(one, other) for one, other in combinations(said.items(), 2)]),
        with_labels=_compared([(one, other) for other in labels.items() for one in said.items()]),
        models=_of_models(rows),
    )


def read_votes(path: str | Path) -> list[dict[str, Any]]:
    """
    Rows of votes.

    Raises:
        `FileNotFoundError`: when there is no such file.
        `ValueError`: when it holds something else; the line is named.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}; `arr-trl vote` writes one.")
    rows = []
    for number, line in enumerate(lines_of(read_text(path)), start=1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except (ValueError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: line {number} is not JSON ({error}).") from None
        known = isinstance(row, dict) and isinstance(row.get("label_rank"), list)
        if not known or not {"rater", "pair"} <= row.keys() or tuple(row["label_rank"]) not in _NAMES:
            raise ValueError(
                f"{path}: line {number} is no vote; it needs `rater`, `pair` and a `label_rank` such as [1, 2]."
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no votes.")
    return rows


def _compared(pairs: list[tuple[tuple[str, dict[str, int]], tuple[str, dict[str, int]]]]) -> list[TwoRaters]:
    found = []
    for (one, said), (other, also) in pairs:
        common = sorted(said.keys() & also.keys())
        if not common:
            continue
        # each pair in both orders, as in `judge eval`: where the better picture always stands first in the data, two who
        # always agree would otherwise agree by chance
        counts_P33 = np.zeros((len(common), 3, 3))
        for counts, key in zip(counts_P33, common, strict=True):
            a, b = said[key], also[key]
            counts[a, b] += 1
            counts[_turned(a), _turned(b)] += 1
        kappa = float(kappa_of_counts(counts_P33.sum(0)))
        drawn = kappa_of_counts(resampled_sums(counts_P33, _RESAMPLES))
        drawn = drawn[~np.isnan(drawn)]
        interval = tuple(map(float, np.quantile(drawn, [0.025, 0.975]))) if len(common) > 1 and len(drawn) else None
        same = sum(said[key] == also[key] for key in common) / len(common)
        found.append(TwoRaters((one, other), len(common), same, None if np.isnan(kappa) else kappa, interval))
    return found


def _turned(choice: int) -> int:
    return choice if choice == 2 else 1 - choice


def _of_models(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    by_models: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        if row.get("models"):
            first, second = row["models"]
            share = {(1, 2): 0.0, (2, 1): 1.0, (1, 1): 0.5}[tuple(row["label_rank"])]
            by_models.setdefault(f"{second} against {first}", []).append((row["pair"], share))
    found = {}
    for name, votes in by_models.items():
        keys = {key: number for number, key in enumerate(dict.fromkeys(key for key, _ in votes))}
        shares = [share for _, share in votes]
        interval = bootstrap_interval(shares, [keys[key] for key, _ in votes])
        found[name] = {"votes": len(votes), "win_rate": sum(shares) / len(shares), "interval": interval}
    return found
