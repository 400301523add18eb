"""How far a judge can be trusted: accuracy against labelled pairs in both orders, bias, and intervals for all of it."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..data.preferences import Preference
from ..data.prompt_sets import Official
from ..folders import replacing
from ..intervals import mcnemar
from ..judges import JudgeReward, JudgeRow, JudgeStats, Preset, Verdict
from ..rubrics import Rubric
from .answer import shown_rate
from .judge_measures import MEASURES, JudgeOutcome, all_measures, is_share, measures
from .judge_report import Figures, JudgeReport


__all__ = [
    "JudgeEvaluation",
    "JudgeOutcome",
    "evaluate_judge",
    "mcnemar",
    "measures",
    "pairs_for",
    "print_summary",
    "save_summary",
    "write_judge_report",
]

_CHUNK = 64  # pairs in memory at once


@dataclass
class JudgeEvaluation:
    """
    A judge against labelled pairs, each shown in both orders.

    Args:
        outcomes (`list[JudgeOutcome]`): one per pair.
        skipped (`list[str]`): a sentence for every row that could not be used.
        stats ([`JudgeStats`]): what it cost.
        failures (`Counter`): why questions got no verdict, and how many for each reason.
    """

    outcomes: list[JudgeOutcome] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    stats: JudgeStats = field(default_factory=JudgeStats)
    failures: Counter[str] = field(default_factory=Counter)

    def summary(
        self,
        price_in: float | None = None,
        price_out: float | None = None,
        official: Sequence[Official] = (),
    ) -> dict:
        """
        The measures with their 95% intervals, of shares those of [`rate_interval`], of others from 1,000 resamples of the
        pairs (seed 0). A tie or a missing
        verdict is not accurate, but where people found a pair level. `accuracy_mean` is the mean of both orders,
        `accuracy_answered` the same over the answers alone, by which who declines hard pairs gains; `position_bias` the
        share of decisive answers for the image shown first, minus .5; as every pair is shown both ways, an unbiased judge
        has 0. What only some data have, such as groups, rankings and labelled ties, is in
        [`~arr_trl.evaluation.judge_measures.all_measures`].

        Args:
            price_in (`float`, *optional*): price of a million tokens in; with `price_out` it gives `cost`.
            price_out (`float`, *optional*): price of a million tokens out.
            official (`Sequence[Official]`, *optional*):
                figures of a benchmark's leaderboard, which `official` of the summary then has by their names.

        Raises:
            `ValueError`: when there are no pairs.
        """
        if not self.outcomes:
            reason = f" The first row was left out because: {self.skipped[0]}" if self.skipped else ""
            raise ValueError(f"There are no labelled pairs to evaluate on.{reason}")
        latencies = self.stats.latencies_s
        asked = {figure.measure for figure in official}
        summary = {"pairs": len(self.outcomes), "skipped": len(self.skipped), **all_measures(self.outcomes, asked)}
        categories = sorted({o.category for o in self.outcomes if o.category is not None})
        if categories:
            summary["categories"] = {
                name: {"pairs": len(some), **all_measures(some, asked)}
                for name in categories
                if (some := [o for o in self.outcomes if o.category == name])
            }
        if official:
            summary["official"] = {figure.name: _official(summary, figure) for figure in official}
        summary |= {
            "calls": self.stats.calls,
            "stored": self.stats.stored,
            "prompt_tokens": self.stats.prompt_tokens,
            "completion_tokens": self.stats.completion_tokens,
            "latency_s": sum(latencies) / len(latencies) if latencies else None,
        }
        if price_in is not None and price_out is not None:
            summary["cost"] = (self.stats.prompt_tokens * price_in + self.stats.completion_tokens * price_out) / 1e6
        return summary


def evaluate_judge(
    judge: JudgeReward,
    pairs: Iterable[Preference | str],
    limit: int | None = None,
    on_pair: Callable[[Preference, Verdict, Verdict], None] | None = None,
) -> JudgeEvaluation:
    """
    Ask a judge about labelled pairs, each in both orders as questions of their own.

    Args:
        judge ([`JudgeReward`]): the judge; a [`RubricJudge`] has to have `order="fixed"`, since the orders are made here.
        pairs (`Iterable[Preference | str]`): pairs, and sentences for rows that are left out.
        limit (`int`, *optional*): how many pairs to take; all by default.
        on_pair (`Callable`, *optional*): called with each pair and what was said of it in either order, for a page of them.
    """
    evaluation = JudgeEvaluation()

    def usable():
        for pair in pairs_for([*judge.rubrics, *judge.presets], pairs):
            if isinstance(pair, str):
                evaluation.skipped.append(pair)
            else:
                yield pair

    remaining = itertools.islice(usable(), limit)
    while chunk := list(itertools.islice(remaining, _CHUNK)):
        rows = [JudgeRow.of(pair) for pair in chunk]
        swapped = [JudgeRow.of(pair, swapped=True) for pair in chunk]
        verdicts, cost = judge.submit(rows + swapped).result()
        evaluation.stats += cost
        evaluation.failures.update(verdict.failure for verdict in verdicts if verdict.failure is not None)
        for pair, forward, reversed_ in zip(chunk, verdicts[: len(chunk)], verdicts[len(chunk) :], strict=True):
            evaluation.outcomes.append(_outcome(pair, forward, reversed_))
            if on_pair is not None:
                on_pair(pair, forward, reversed_)
    return evaluation


def write_judge_report(path: str | Path, report: JudgeReport, summary: dict, judge: JudgeReward, dataset: str) -> Path:
    """
    Write the page of pairs of an evaluation, with its measures.

    Args:
        path (`str` or `Path`): the HTML file.
        report ([`JudgeReport`]): with the pairs.
        summary (`dict`): of [`JudgeEvaluation.summary`].
        judge ([`JudgeReward`]): who was asked.
        dataset (`str`): what the pairs are called.
    """
    found, pairs = shown_rate(summary["accuracy_consistent"], summary["accuracy_consistent_ci"]), summary["pairs"]
    answers = [f"The judge is right in both orders on {found} of {pairs:,} labelled pairs."]
    if summary["accuracy_mean_ci"][0] <= 0.5:
        mean = shown_rate(summary["accuracy_mean"], summary["accuracy_mean_ci"])
        answers.append(
            f"These pairs do not tell it from chance: {mean} of its answers are right, of which half would be."
        )
    rows = [(name.replace("_", " "), _cell(summary, name).replace("\\[", "[")) for name in MEASURES if name in summary]
    tables = [Figures("Measures, with 95% intervals", ("measure", "value"), rows)]
    if "categories" in summary:
        rows = [
            (name, str(some["pairs"]), _cell(some, "accuracy_consistent").replace("\\[", "["))
            for name, some in summary["categories"].items()
        ]
        tables.append(Figures("By category", ("category", "pairs", "right in both orders"), rows))
    names = ", ".join(judge.model_names) or type(judge).__name__
    rubric = judge.rubrics[0] if len(judge.rubrics) == 1 else None
    return report.write(path, f"{names} on {dataset}", answers, tables, rubric, names)


def pairs_for(asked_by: Iterable[Rubric | Preset], pairs: Iterable[Preference | str]) -> Iterator[Preference | str]:
    """The pairs, with a sentence in place of one that lacks the source image that a rubric or a preset needs."""
    editing = next((rubric for rubric in asked_by if rubric.task == "image-editing"), None)
    for pair in pairs:
        if editing is not None and isinstance(pair, Preference) and pair.source_image is None:
            what = "rubric" if isinstance(editing, Rubric) else "preset"
            yield f"Row {pair.row}: it has no source image, which the editing {what} {editing.name} needs."
        else:
            yield pair


def save_summary(summary: dict, path: str | Path) -> None:
    """Write a summary as JSON."""
    with replacing(path) as written:
        written.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def print_summary(summaries: dict[str, dict], console: Console | None = None) -> None:
    """
    Print summaries side by side, one column each.

    Args:
        summaries (`dict[str, dict]`): what [`JudgeEvaluation.summary`] gave, by heading.
        console (`rich.console.Console`, *optional*): where to print; standard output by default.
    """
    console = console or Console()
    first = next(iter(summaries.values()))
    table = Table(title=f"Judge on {first['pairs']} labelled pairs, both orders", title_justify="left")
    table.add_column("measure [95% interval]".replace("[", "\\["))
    for heading in summaries:
        table.add_column(heading, justify="right")
    for name in (name for name in MEASURES if name in first):
        table.add_row(name, *(_cell(s, name) for s in summaries.values()))
    table.add_section()
    for name in ("calls", "stored", "latency_s", "prompt_tokens", "completion_tokens", "cost"):
        figures = [s.get(name) for s in summaries.values()]
        if any(figure is not None for figure in figures):
            table.add_row(name, *map(_figure, figures))
    console.print(table, highlight=False)
    if "official" in first:
        official = Table(title="As the leaderboard of the set counts", title_justify="left")
        for heading in ("figure", "measure", *summaries):
            official.add_column(heading, justify="left" if heading in ("figure", "measure") else "right")
        for name, figure in first["official"].items():
            cells = (_cell(s["official"][name], "value", figure["measure"]) for s in summaries.values())
            official.add_row(name, figure["measure"], *cells)
        console.print(official, highlight=False)
    if "categories" in first:
        categories = Table(title="accuracy_consistent by category", title_justify="left")
        for heading in ("category", "pairs", *summaries):
            categories.add_column(heading, justify="left" if heading == "category" else "right")
        for name, some in first["categories"].items():
            cells = (_cell(s["categories"][name], "accuracy_consistent") for s in summaries.values())
            categories.add_row(name, str(some["pairs"]), *cells)
        console.print(categories, highlight=False)


def _figure(value: float | None) -> str:
    if value is None:  # nothing was asked that would have taken seconds
        return "–"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


def _cell(summary: dict, name: str, measure: str | None = None) -> str:
    if summary.get(name) is None:
        return "–"
    value, interval = summary[name], summary[f"{name}_ci"]
    if not is_share(measure or name):
        return f"{value:.3f}" + (" \\[{:.3f}, {:.3f}]".format(*interval) if interval else "")
    return "{:.1f}% \\[{:.1f}, {:.1f}]".format(*(100 * x for x in (value, *interval)))


def _official(summary: dict, figure: Official) -> dict:
    """The value of a leaderboard's figure; `None` where the data at hand have nothing of it."""
    of = summary if figure.category is None else summary.get("categories", {}).get(figure.category, {})
    return {
        "measure": figure.measure,
        "category": figure.category,
        "value": of.get(figure.measure),
        "value_ci": of.get(f"{figure.measure}_ci"),
    }


def _outcome(pair: Preference, forward: Verdict, reversed_: Verdict) -> JudgeOutcome:
    both = (forward, reversed_)
    decisive = [verdict.winner for verdict in both if verdict.winner is not None]
    named = (forward.winner, None if reversed_.winner is None else 1 - reversed_.winner)
    leads = (forward.lead, reversed_.lead)
    return JudgeOutcome(
        forward=None if None in (named[0], pair.winner) else named[0] == pair.winner,
        reversed=None if None in (named[1], pair.winner) else named[1] == pair.winner,
        first=sum(winner == 0 for winner in decisive),
        decisive=len(decisive),
        ties=sum(verdict.tie for verdict in both),
        invalid=sum(verdict.failure is not None for verdict in both),
        category=pair.category,
        label=pair.winner,
        answers=tuple("tie" if verdict.tie else winner for verdict, winner in zip(both, named, strict=True)),
        lead=None if None in leads else (leads[0] - leads[1]) / 2,
        group=pair.group,
        group_size=pair.group_size,
        items=pair.items,
    )
