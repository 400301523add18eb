"""What an evaluation found: written to `results.json`, printed as a table, shown in the model card."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..folders import replacing


@dataclass(frozen=True)
class SuccessRates:
    """
    How often pictures meet criteria whose truth is known.

    Args:
        success_all (`float`): share of pictures that meet every criterion, 0 to 1.
        success (`dict[str, float]`): share of pictures that meet each criterion, 0 to 1.
    """

    success_all: float
    success: dict[str, float]


@dataclass(frozen=True)
class EvaluationResults:
    """
    The trained adapter against its base on held-out prompts with fixed seeds: what a run measures of itself with what it
    cost, and what its card says. [`Evaluation`] tells why it is not the same as that one.

    Args:
        base_model (`str`):
            Id or path of the base.
        adapter (`str`):
            Subfolder of the adapter.
        prompts (`int`):
            Number of held-out prompts.
        base (`SuccessRates`, *optional*):
            Success of the base; `None` when the truth is not known.
        trained (`SuccessRates`, *optional*):
            Success of the trained model.
        win_rate (`float`, *optional*):
            Judge win rate against the base, 0 to 1, a tie counting one half.
        win_rate_ci (`tuple[float, float]`, *optional*):
            95% interval of `win_rate`; see [`rate_interval`].
        tie_rate (`float`, *optional*):
            Share of ties among the comparisons that succeeded.
        failure_rate (`float`, *optional*):
            Share of the prompts on which the judge gave no verdict.
        order_consistency (`float`, *optional*):
            Share of the comparisons in which both orders named the same winner.
        images_per_prompt (`int`, *optional*, defaults to `1`):
            Pictures of each prompt by each of the two.
        judge_calls (`int`, *optional*):
            Requests to the judge, training and evaluation together.
        transformer_forwards (`int`, *optional*):
            Forward passes of the transformer in training, counted per picture.
        train_seconds (`float`, *optional*):
            Wall time of training.
        win_rate_by (`str`, *optional*):
            Whose win rate it is, such as `"Judge"`, or `"Reward brightness"` where no judge took part.
        last_failure (`str`, *optional*):
            Why there is no verdict on the last of the prompts that have none.
        as_trained (`dict[str, float]`, *optional*):
            The trained model at the `guidance_scale` that its loss took velocities at, where that is another than the
            one it is used at, against the base as it is used: `win_rate` and `success_all`.
    """

    base_model: str
    adapter: str
    prompts: int
    base: SuccessRates | None = None
    trained: SuccessRates | None = None
    win_rate: float | None = None
    win_rate_ci: tuple[float, float] | None = None
    tie_rate: float | None = None
    failure_rate: float | None = None
    order_consistency: float | None = None
    images_per_prompt: int = 1
    judge_calls: int | None = None
    transformer_forwards: int | None = None
    train_seconds: float | None = None
    win_rate_by: str | None = None
    last_failure: str | None = None
    as_trained: dict[str, float] | None = None

    def save(self, path: str | os.PathLike) -> None:
        """Write the results as JSON; the file at `path` is replaced in one step."""
        with replacing(path) as written:
            written.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "EvaluationResults":
        """
        Read results back from `results.json`.

        Raises:
            `FileNotFoundError`: when there is no such file.
            `ValueError`: when the file does not hold results; the message names what is missing or unknown.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There are no results at {path}; an evaluation writes them.")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON: {error}.") from error
        names = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or not {"base_model", "adapter", "prompts"} <= data.keys() <= names:
            found = ", ".join(sorted(data)) if isinstance(data, dict) else type(data).__name__
            raise ValueError(
                f"{path} does not hold evaluation results: found {found}; needed are `base_model`, `adapter` and "
                f"`prompts`, allowed are {', '.join(sorted(names))}."
            )
        for name in ("base", "trained"):
            if data.get(name) is not None:
                data[name] = SuccessRates(**data[name])
        if data.get("win_rate_ci") is not None:
            data["win_rate_ci"] = tuple(data["win_rate_ci"])
        return cls(**data)


def success_rates(checks: Sequence[Mapping[str, bool]]) -> SuccessRates:
    """
    Add up what is true of each picture.

    Args:
        checks (`Sequence[Mapping[str, bool]]`):
            One mapping per picture from criterion to whether it is met; all with the same criteria.

    Raises:
        `ValueError`: when there are no pictures, or their criteria differ.
    """
    if not checks:
        raise ValueError("Success rates need at least one picture; the list of checks is empty.")
    criteria = list(checks[0])
    for number, check in enumerate(checks):
        if set(check) != set(criteria):
            raise ValueError(f"Picture {number} has the criteria {sorted(check)}, picture 0 has {sorted(criteria)}.")
    return SuccessRates(
        success_all=sum(all(check.values()) for check in checks) / len(checks),
        success={name: sum(check[name] for check in checks) / len(checks) for name in criteria},
    )


def print_table(results: EvaluationResults, console: Console | None = None) -> None:
    """
    Print base against trained, then what the judge said.

    Args:
        results ([`EvaluationResults`]):
            What to print; rows without a measurement are left out.
        console (`rich.console.Console`, *optional*):
            Where to print; standard output by default.
    """
    console = console or Console()
    if results.base is not None and results.trained is not None:
        table = Table(title=f"Success on {results.prompts} held-out prompts", title_justify="left")
        table.add_column("criterion")
        for heading in ("base", "trained", "difference"):
            table.add_column(heading, justify="right")
        for name, base in results.base.success.items():
            table.add_row(name, *_base_and_trained(base, results.trained.success[name]))
        table.add_section()
        table.add_row("all criteria", *_base_and_trained(results.base.success_all, results.trained.success_all))
        console.print(table)
    by = results.win_rate_by or "Judge"
    judge = Table(title=f"{by}, trained against base, {results.prompts} prompts", title_justify="left")
    judge.add_column("measure")
    judge.add_column("value", justify="right")
    low_high = results.win_rate_ci
    interval = f" [{100 * low_high[0]:.1f}, {100 * low_high[1]:.1f}]" if low_high else ""
    for name, value, more in (
        ("win rate [95% interval]", results.win_rate, interval),
        ("ties", results.tie_rate, ""),
        ("no verdict", results.failure_rate, ""),
        ("both orders agree", results.order_consistency, ""),
    ):
        if value is not None:
            judge.add_row(name, percent(value) + more)
    if results.as_trained is not None and "win_rate" in results.as_trained:
        scale = results.as_trained["guidance_scale"]
        judge.add_row(f"win rate at guidance {scale:g}, as trained", percent(results.as_trained["win_rate"]))
    if judge.row_count:
        console.print(judge, highlight=False, markup=False)


def _base_and_trained(base: float, trained: float) -> tuple[str, str, str]:
    return percent(base), percent(trained), f"{100 * (trained - base):+.1f} points"


def percent(rate: float | None) -> str:
    """A rate as people read it; a dash for what was not measured."""
    return "–" if rate is None else f"{100 * rate:.1f}%"
