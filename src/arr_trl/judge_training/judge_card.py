"""The card of a trained judge: what it is asked, what it learned from, what was measured, and how to use it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..evaluation.judge_measures import is_share
from ..evaluation.results import percent
from ..folders import replacing
from ..judges import Preset
from ..release import public_name
from ..shipped import place_of
from .judge_release import served_rank


_SHOWN = ("accuracy_mean", "accuracy_consistent", "position_bias", "tie_rate", "invalid_rate")


@dataclass
class JudgeFacts:
    """
    What the card of a judge says beside what its trainer knows.

    Args:
        datasets (`list[str]`): what it learned from; those on the Hub are named in the front matter.
        learned (`str`): how, in a sentence.
        pairs (`int`, *optional*): how many labelled pairs it learned from.
        measured (`dict[str, dict]`): what `arr-trl judge eval` measures on held-out pairs, `before` and `after`.
        calibration (`dict[str, float]`):
            How far probabilities are from the share of those that are right, `before` and `after`, where they are measured.
        measured_on (`str`, *optional*): which pairs.
    """

    datasets: list[str] = field(default_factory=list)
    learned: str = ""
    pairs: int | None = None
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    calibration: dict[str, float | None] = field(default_factory=dict)
    measured_on: str | None = None


def write_judge_card(
    folder: str | Path,
    facts: JudgeFacts,
    preset: Preset,
    *,
    name: str,
    repo: str | None,
    base_model: str,
    rank: int,
    trained: str,
    settings: dict[str, Any],
) -> None:
    """
    Write README.md of a judge's folder.

    Args:
        folder (`str` or `Path`): the folder.
        facts ([`JudgeFacts`]): the data, and what was measured.
        preset ([`~arr_trl.judges.Preset`]): what is asked.
        name (`str`): the judge's name.
        repo (`str`, *optional*): its repository, where it is pushed to one.
        base_model (`str`): what the adapter belongs to.
        rank (`int`): of the adapter.
        trained (`str`): by what and how long.
        settings (`dict[str, Any]`): settings that the card names.
    """
    base, is_local = public_name(place_of(base_model))
    environment = Environment(
        loader=PackageLoader("arr_trl.judge_training"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("judge.md.jinja2").render(
        name=name,
        place=repo or "path/to/this/folder",
        base=base,
        base_is_local=is_local,
        hub_datasets=[name for name, local in map(public_name, facts.datasets) if not local],
        facts=facts,
        rank=rank,
        served_rank=served_rank(rank),
        preset=preset,
        ask=preset.asks[0],
        trained=trained,
        rows=_table(facts),
        calibration={name: None if ece is None else percent(ece) for name, ece in facts.calibration.items()},
        settings=settings,
    )
    with replacing(Path(folder) / "README.md") as written:
        written.write_text(text, encoding="utf-8")


def _table(facts: JudgeFacts) -> list[tuple[str, list[str]]]:
    """The measures, each with its value before and after."""
    if not facts.measured:
        return []
    return [
        (name, [_cell(summary, name) for summary in facts.measured.values()])
        for name in _SHOWN
        if any(summary.get(name) is not None for summary in facts.measured.values())
    ]


def _cell(summary: dict[str, Any], name: str) -> str:
    if summary.get(name) is None:
        return "–"
    low, high = summary[f"{name}_ci"]
    if not is_share(name):
        return f"{summary[name]:.3f} [{low:.3f}, {high:.3f}]"
    return f"{percent(summary[name])} [{percent(low)}, {percent(high)}]"
