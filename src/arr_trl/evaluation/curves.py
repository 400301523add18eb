"""Learning curves of a run, from the `trainer_state.json` that stands beside its adapters."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


# What is worth a chart: title, what to look for, whether it is a share from 0 to 1, and the names it has in the logs.
# The first three say what became of the model, the others how the training went.
_CHARTS = (
    ("Win rate against the base", "should rise above .5", True, ("eval_win_rate",)),
    ("Success", "ground truth, if there is one", True, ("eval_success_all", "eval_base_success_all")),
    ("KL to the base", "rises slowly", False, ("policy/kl",)),
    ("Ties", "share of verdicts", True, ("judge/tie_rate", "eval_tie_rate")),
    ("Order consistency", "near 1: the judge does not go by position", True, ("judge/order_consistency",)),
    ("Decided pairs", "share that is learned from", True, ("rollout/decided_rate",)),
    ("Clip fraction", "0 when on-policy", True, ("policy/clip_fraction",)),
    ("Difference within pairs", "near 0 there is nothing to judge", False, ("rollout/pixel_distance",)),
    ("Waiting for the judge", "seconds per rollout, beside sampling", False, ("judge/wait_s", "rollout/sample_s")),
    ("Gradient norm", "without spikes", False, ("grad_norm",)),
)

_CHIEF = 3


def find_run(adapter_path: str) -> Path | None:
    """The `trainer_state.json` of the run that an adapter's folder belongs to, if it is there."""
    folder = Path(adapter_path)
    return next(
        (p for p in (folder.parent / "trainer_state.json", folder / "trainer_state.json") if p.is_file()), None
    )


def learning_curves(runs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """
    Charts of what the runs logged.

    Args:
        runs (`Mapping[str, Path]`): name of each run and its `trainer_state.json`.

    Returns:
        `list[dict]`: `title`, `hint`, `share`, `first` (whether it is among those that matter), `half` (whether one half is its
        middle), `series` (their labels) and `values` (steps, then one list per series, `None` where nothing was logged). Charts
        without values are left out.
    """
    histories = {
        name: json.loads(path.read_text(encoding="utf-8")).get("log_history", []) for name, path in runs.items()
    }
    charts = []
    for number, (title, hint, share, metrics) in enumerate(_CHARTS):
        series: dict[str, dict[int, float]] = {}
        for name, history in histories.items():
            for metric in metrics:
                label = f"{name} {metric}" if len(histories) > 1 else metric
                points = {entry["step"]: float(entry[metric]) for entry in history if metric in entry}
                if points:
                    series[label] = points
        steps = sorted({step for points in series.values() for step in points})
        if not steps:
            continue
        values = [steps, *([points.get(step) for step in steps] for points in series.values())]
        charts.append(
            {
                "title": title,
                "hint": hint,
                "share": share,
                "first": number < _CHIEF,
                "half": "eval_win_rate" in metrics,
                "series": list(series),
                "values": values,
            }
        )
    return charts
