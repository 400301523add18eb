"""From records to rates with intervals: what `results.json` of `arr-trl evaluate` holds."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..folders import replacing
from ..intervals import bootstrap_interval, rate_interval
from ..judges import JudgeReward, JudgeStats, PresetJudge, RubricJudge
from ..rubrics import Rubric
from .bradley_terry import bradley_terry
from .records import BASE, PairRecord, PictureRecord
from .results import EvaluationResults, SuccessRates, percent, success_rates
from .win_rate import outcome_of, outcome_of_rewards, win_rate


# What a comparison and a card have of a [`WinRate`].
_RATES = ("win_rate", "win_rate_ci", "tie_rate", "failure_rate", "order_consistency")


@dataclass(frozen=True)
class Evaluation:
    """
    Base against adapters, as `arr-trl evaluate` finds it: several models, every two compared, with criteria and rewards.
    What a run measures of itself, and what a card says of one adapter, is an [`EvaluationResults`]: less than this (no
    other models, no criteria) and more (what training cost), in a `results.json` of another form, so that the two are two.
    [`~Evaluation.results`] gives the one from the other, and both have their win rates from [`win_rate`].

    Every rate is a share from 0 to 1 with `<name>_ci`, its 95% interval, in which whole prompts are resampled; win rates
    count a tie as one half, leave failures out, and are those of the second model.

    Args:
        base_model (`str`): id or name of the base.
        adapters (`dict[str, str]`): name of each adapter and where it came from.
        prompts (`int`): number of prompts.
        settings (`dict`): how the pictures were drawn.
        judge (`dict`, *optional*): model, rubric, what it cost.
        models (`dict[str, dict]`): per model its diversity, drift from the base, rewards and success.
        comparisons (`list[dict]`): per two models the win rates, and the differences in success.
        ranking (`list[dict]`): Bradley-Terry strengths, where there are more than two models.
    """

    base_model: str
    adapters: dict[str, str]
    prompts: int
    settings: dict[str, Any]
    judge: dict[str, Any] | None = None
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    ranking: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: str | os.PathLike) -> None:
        """Write it as JSON; what is at `path` is replaced in one step."""
        with replacing(path) as written:
            written.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Evaluation":
        """
        Read `results.json` back.

        Raises:
            `FileNotFoundError`: when there is no such file.
            `ValueError`: when it holds something else.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no evaluation at {path}; `arr-trl evaluate` writes one.")
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} does not hold what `arr-trl evaluate` writes: {error}.") from error

    def results(self, adapter: str) -> EvaluationResults:
        """
        What a model card says of one adapter against the base.

        Raises:
            `ValueError`: when the adapter was not evaluated.
        """
        against = [c for c in self.comparisons if c["models"] == [BASE, adapter]]
        if not against:
            raise ValueError(
                f"There is no comparison of {adapter!r} with the base; there are {', '.join(self.models)}."
            )
        rate = {name: against[0][name] for name in _RATES}
        return EvaluationResults(
            base_model=self.base_model,
            adapter=adapter,
            prompts=self.prompts,
            images_per_prompt=self.settings["num_images_per_prompt"],
            base=_success(self.models[BASE]),
            trained=_success(self.models[adapter]),
            **rate | {"win_rate_ci": rate["win_rate_ci"] and tuple(rate["win_rate_ci"])},
            judge_calls=self.judge and self.judge["calls"],
        )


def compare(pairs: Sequence[PairRecord], rubric: Rubric | None = None) -> dict[str, Any]:
    """
    The win rate of the second of two models, with everything around it.

    Args:
        pairs (`Sequence[PairRecord]`): comparisons of the same two models.
        rubric ([`Rubric`], *optional*): what the criteria say, where they are the same for all prompts.
    """
    prompts = [pair.prompt for pair in pairs]
    outcomes = [pair.outcome for pair in pairs]
    judged = [pair for pair in pairs if pair.failure is None]
    rate = win_rate(outcomes, prompts, [pair.consistent for pair in judged])
    found: dict[str, Any] = {
        "models": list(pairs[0].models),
        "pairs": len(pairs),
        **{name: getattr(rate, name) for name in _RATES},
        "win_rate_ci_independent": rate_interval(outcomes),
    }
    ordered = [pair for pair in judged if pair.orders]
    for i, name in enumerate(("win_rate_first_order", "win_rate_second_order")):
        found |= _rate(name, [outcome_of(pair.orders[i]) for pair in ordered], [pair.prompt for pair in ordered])
    found["criteria"] = [_criterion(number, judged, rubric) for number in _criteria(judged)]
    names = dict.fromkeys(name for pair in pairs for name in pair.rewards)
    found["rewards"] = {
        name: _rate("win_rate", [outcome_of_rewards(*pair.rewards[name]) for pair in pairs], prompts) for name in names
    }
    return found


def summarize(
    models: Sequence[str], pairs: Sequence[PairRecord], pictures: Sequence[PictureRecord], rubric: Rubric | None
) -> tuple[dict[str, dict], list[dict], list[dict]]:
    """
    What an evaluation found.

    Args:
        models (`Sequence[str]`): names, the base first.
        pairs (`Sequence[PairRecord]`): all comparisons.
        pictures (`Sequence[PictureRecord]`): all pictures.
        rubric ([`Rubric`], *optional*): of the judge.

    Returns:
        `tuple(dict, list, list)`: `models`, `comparisons` and `ranking` of [`Evaluation`].
    """
    comparisons = []
    for names in combinations(models, 2):
        some = [pair for pair in pairs if pair.models == names]
        if some:
            comparisons.append(compare(some, rubric) | _success_of_two(names, pictures))
    judged = [pair for pair in pairs if pair.failure is None]
    ranking = []
    if len(models) > 2 and judged:
        outcomes, prompts = [pair.outcome for pair in judged], [pair.prompt for pair in judged]
        ranking = [asdict(s) for s in bradley_terry(models, [pair.models for pair in judged], outcomes, prompts)]
    return {name: _model([p for p in pictures if p.model == name]) for name in models}, comparisons, ranking


def _success_of_two(names: tuple[str, str], pictures: Sequence[PictureRecord]) -> dict[str, Any]:
    """Success of two models side by side, where the truth is known: of every criterion, and of all of them."""
    first, second = (
        {(p.prompt, p.image): p.checks for p in pictures if p.model == name and p.checks} for name in names
    )
    places = sorted(first.keys() & second.keys())
    if not places:
        return {}
    prompts = [prompt for prompt, _ in places]

    def rates(met: Callable[[dict[str, bool]], bool]) -> dict[str, Any]:
        before, after = ([float(met(of_model[place])) for place in places] for of_model in (first, second))
        # better, as before or worse is to a picture what a win, a tie or a loss is: one kind of interval for both
        ends = rate_interval([(1 + b - a) / 2 for a, b in zip(before, after, strict=True)], prompts)
        return {
            **_rate("first", before, prompts),
            **_rate("second", after, prompts),
            "difference": (sum(after) - sum(before)) / len(places),
            "difference_ci": tuple(2 * end - 1 for end in ends),
        }

    each = {name: rates(lambda checks, name=name: checks[name]) for name in first[places[0]]}
    return {"success": each, "success_all": rates(lambda checks: all(checks.values()))}


def judge_facts(judge: JudgeReward, stats: JudgeStats) -> dict[str, Any]:
    """The judge's part of [`Evaluation`]."""
    cost = {
        "calls": stats.calls,
        "stored": stats.stored,
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.completion_tokens,
    }
    if isinstance(judge, PresetJudge):
        preset = f"{judge.preset.name} {judge.preset.version}"
        return {"model": judge.model.model, "rubric": None, "preset": preset, "order": judge.order, **cost}
    if not isinstance(judge, RubricJudge):
        return {"model": type(judge).__name__, "rubric": None, **cost}
    rubric = None if judge.rubric is None else judge.rubric.model_dump()
    return {
        "model": judge.model.model,
        "rubric": rubric,
        "mode": judge.mode.template,
        "order": judge.order,
        "language": judge.language,
        **cost,
    }


def print_evaluation(evaluation: Evaluation, console: Console | None = None) -> None:
    """
    Print what was found, one row per comparison and one per model.

    Args:
        evaluation ([`Evaluation`]): what to print.
        console (`rich.console.Console`, *optional*): where to print; standard output by default.
    """
    console = console or Console()
    title = f"{evaluation.prompts} prompts, {evaluation.settings['num_images_per_prompt']} pictures each"
    judged = [found for found in evaluation.comparisons if found["win_rate"] is not None]
    if judged:
        table = Table(title=f"Win rates on {title}", title_justify="left")
        for heading in ("model", "against", "win rate [95%]", "ties", "no\nverdict", "orders\nagree"):
            table.add_column(
                heading,
                justify="left" if heading in ("model", "against") else "right",
                no_wrap=heading.startswith("win"),
                overflow="fold",  # a name is read whole
            )
        for found in judged:
            rates = (percent(found[name]) for name in ("tie_rate", "failure_rate", "order_consistency"))
            table.add_row(found["models"][1], found["models"][0], with_interval(found, "win_rate"), *rates)
        console.print(table, highlight=False, markup=False)
    table = Table(title=f"Models on {title}", title_justify="left")
    table.add_column("measure")
    for name in evaluation.models:
        table.add_column(name, justify="right")
    first = next(iter(evaluation.models.values()))
    last = list(evaluation.models.values())[-1]
    for name, label in (("pixel_diversity", "pixel diversity"), ("drift", "drift from the base")):
        if last[name] is not None:
            table.add_row(label, *(_plain(model[name]) for model in evaluation.models.values()))
    for name in first["rewards"]:
        table.add_row(name, *(_plain(model["rewards"][name]["mean"]) for model in evaluation.models.values()))
    for name in first.get("success", ()):
        table.add_row(name, *(percent(model["success"][name]) for model in evaluation.models.values()))
    if "success_all" in first:
        table.add_row("all criteria", *(percent(model["success_all"]) for model in evaluation.models.values()))
    console.print(table, highlight=False, markup=False)


def with_interval(found: dict[str, Any], name: str) -> str:
    """A rate and its interval as people read them."""
    interval = found[f"{name}_ci"]
    return percent(found[name]) + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _model(pictures: list[PictureRecord]) -> dict[str, Any]:
    prompts = [picture.prompt for picture in pictures]
    found: dict[str, Any] = {
        **_mean("pixel_diversity", [_number(picture.diversity) for picture in pictures], prompts),
        **_mean("drift", [_number(picture.drift) for picture in pictures], prompts),
    }
    names = dict.fromkeys(name for picture in pictures for name in picture.rewards)
    found["rewards"] = {
        name: _mean("mean", [_number(picture.rewards[name]) for picture in pictures], prompts) for name in names
    }
    if pictures and pictures[0].checks:
        rates = success_rates([picture.checks for picture in pictures])
        found["success_all"], found["success"] = rates.success_all, rates.success
    return found


def _criteria(judged: list[PairRecord]) -> list[int]:
    return sorted({number for pair in judged for number, _ in pair.criteria})


def _criterion(number: int, judged: list[PairRecord], rubric: Rubric | None) -> dict[str, Any]:
    told = [(pair.prompt, outcome_of(winner)) for pair in judged for n, winner in pair.criteria if n == number]
    rate = win_rate([outcome for _, outcome in told], [prompt for prompt, _ in told])
    known = rubric is not None and number <= len(rubric.criteria)
    return {
        "criterion": number,
        "text": rubric.criteria[number - 1].text if known else f"criterion {number} of each prompt",
        "win_rate": rate.win_rate,
        "win_rate_ci": rate.win_rate_ci,
        "tie_rate": rate.tie_rate,
    }


def _rate(name: str, values: list[float], prompts: list[int]) -> dict[str, Any]:
    return _mean(name, values, prompts) | {f"{name}_ci": rate_interval(values, prompts)}


def _mean(name: str, values: list[float], prompts: list[int]) -> dict[str, Any]:
    known = [value for value in values if not math.isnan(value)]
    return {name: sum(known) / len(known) if known else None, f"{name}_ci": bootstrap_interval(values, prompts)}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _success(model: dict[str, Any]) -> SuccessRates | None:
    return SuccessRates(model["success_all"], model["success"]) if "success" in model else None
