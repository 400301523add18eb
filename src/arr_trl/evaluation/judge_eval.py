"""How far a judge can be trusted: accuracy against labelled pairs in both orders, bias, and intervals for all of it."""

import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ..data.preferences import Preference
from ..folders import replacing
from ..intervals import resampled_sums
from ..judges import JudgeReward, JudgeRow, JudgeStats, Verdict


_CHUNK = 64  # pairs in memory at once
_RESAMPLES = 1000


@dataclass(frozen=True)
class JudgeOutcome:
    """
    What a judge said of one pair: `forward` in the order of the data, `reversed` in the other, each `True` when it
    named the labelled winner, `False` when the loser, `None` for a tie or no verdict; how many of the two answers
    named the image shown first, were decisive, were ties, were no verdict.
    """

    forward: bool | None
    reversed: bool | None
    first: int
    decisive: int
    ties: int
    invalid: int
    category: str | None = None

    @property
    def right_in_both(self) -> bool:
        return self.forward is True and self.reversed is True


# What is measured: for one pair, what it adds to the numerator and to the denominator. A pair that does not count adds to
# neither.
_MEASURES = {
    "accuracy_forward": lambda o: (o.forward is True, 1),
    "accuracy_reversed": lambda o: (o.reversed is True, 1),
    "accuracy_consistent": lambda o: (o.right_in_both, 1),
    "order_consistency": lambda o: (o.forward == o.reversed and o.invalid == 0, o.invalid == 0),
    "position_bias": lambda o: (o.first - 0.5 * o.decisive, o.decisive),
    "tie_rate": lambda o: (o.ties, 2),
    "invalid_rate": lambda o: (o.invalid, 2),
}


@dataclass
class JudgeEvaluation:
    """
    A judge against labelled pairs, each shown in both orders.

    Args:
        outcomes (`list[JudgeOutcome]`): one per pair.
        skipped (`list[str]`): a sentence for every row that could not be used.
        stats ([`JudgeStats`]): what it cost.
    """

    outcomes: list[JudgeOutcome] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    stats: JudgeStats = field(default_factory=JudgeStats)

    def summary(self, price_in: float | None = None, price_out: float | None = None) -> dict:
        """
        The measures with their bootstrap 95% intervals (1,000 resamples of the pairs, seed 0). A tie or a missing
        verdict is not accurate. `position_bias` is the share of decisive answers for the image shown first, minus .5;
        as every pair is shown both ways, an unbiased judge has 0.

        Args:
            price_in (`float`, *optional*): price of a million tokens in; with `price_out` it gives `cost`.
            price_out (`float`, *optional*): price of a million tokens out.

        Raises:
            `ValueError`: when there are no pairs.
        """
        if not self.outcomes:
            reason = f" The first row was left out because: {self.skipped[0]}" if self.skipped else ""
            raise ValueError(f"There are no labelled pairs to evaluate on.{reason}")
        latencies = self.stats.latencies_s
        summary = {"pairs": len(self.outcomes), "skipped": len(self.skipped), **measures(self.outcomes)}
        categories = sorted({o.category for o in self.outcomes if o.category is not None})
        if categories:
            summary["categories"] = {
                name: {"pairs": len(some), **measures(some)}
                for name in categories
                if (some := [o for o in self.outcomes if o.category == name])
            }
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


def evaluate_judge(judge: JudgeReward, pairs: Iterable[Preference | str], limit: int | None = None) -> JudgeEvaluation:
    """
    Ask a judge about labelled pairs, each in both orders as questions of their own.

    Args:
        judge ([`JudgeReward`]): the judge; a [`RubricJudge`] has to have `order="fixed"`, since the orders are made here.
        pairs (`Iterable[Preference | str]`): pairs, and sentences for rows that are left out.
        limit (`int`, *optional*): how many pairs to take; all by default.
    """
    evaluation = JudgeEvaluation()

    def usable():
        for pair in pairs:
            if isinstance(pair, str):
                evaluation.skipped.append(pair)
            else:
                yield pair

    remaining = itertools.islice(usable(), limit)
    while chunk := list(itertools.islice(remaining, _CHUNK)):
        rows = [JudgeRow(p.prompt, p.images, p.source_image) for p in chunk]
        swapped = [JudgeRow(p.prompt, p.images[::-1], p.source_image) for p in chunk]
        verdicts, cost = judge.submit(rows + swapped).result()
        evaluation.stats += cost
        for pair, forward, reversed_ in zip(chunk, verdicts[: len(chunk)], verdicts[len(chunk) :], strict=True):
            evaluation.outcomes.append(_outcome(pair, forward, reversed_))
    return evaluation


def measures(outcomes: list[JudgeOutcome]) -> dict[str, float | list[float] | None]:
    """Every measure and, as `<name>_ci`, its interval; `None` where nothing could be measured."""
    parts = np.array([[measure(o) for measure in _MEASURES.values()] for o in outcomes], dtype=float)  # [P, M, 2]
    sums = resampled_sums(parts, _RESAMPLES)
    found: dict[str, float | list[float] | None] = {}
    for i, name in enumerate(_MEASURES):
        numerator, denominator = parts[:, i].sum(0)
        if denominator == 0:
            found |= {name: None, f"{name}_ci": None}
            continue
        drawn = sums[:, i][sums[:, i, 1] > 0]
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
        found |= {name: numerator / denominator, f"{name}_ci": [float(low), float(high)]}
    return found


def mcnemar(one: list[bool], other: list[bool]) -> dict[str, float]:
    """
    McNemar's exact test of two judges on the same pairs.

    Returns:
        `dict[str, float]`: `only_first` and `only_second`, how many pairs one got right and the other did not, and
        `p_value`, two-sided.
    """
    only_first = sum(a and not b for a, b in zip(one, other, strict=True))
    only_second = sum(b and not a for a, b in zip(one, other, strict=True))
    n = only_first + only_second
    tail = sum(math.comb(n, i) for i in range(min(only_first, only_second) + 1)) / 2**n
    return {"only_first": only_first, "only_second": only_second, "p_value": min(1.0, 2 * tail)}


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
    for name in _MEASURES:
        table.add_row(name, *(_cell(s, name) for s in summaries.values()))
    table.add_section()
    for name in ("calls", "stored", "latency_s", "prompt_tokens", "completion_tokens", "cost"):
        figures = [s.get(name) for s in summaries.values()]
        if any(figure is not None for figure in figures):
            table.add_row(name, *map(_figure, figures))
    console.print(table, highlight=False)
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


def _cell(summary: dict, name: str) -> str:
    if summary[name] is None:
        return "–"
    low, high = summary[f"{name}_ci"]
    return f"{100 * summary[name]:.1f}% \\[{100 * low:.1f}, {100 * high:.1f}]"


def _outcome(pair: Preference, forward: Verdict, reversed_: Verdict) -> JudgeOutcome:
    answers = (forward, reversed_)
    decisive = [verdict.winner for verdict in answers if verdict.winner is not None]
    return JudgeOutcome(
        forward=None if forward.winner is None else forward.winner == pair.winner,
        reversed=None if reversed_.winner is None else reversed_.winner == 1 - pair.winner,
        first=sum(winner == 0 for winner in decisive),
        decisive=len(decisive),
        ties=sum(verdict.tie for verdict in answers),
        invalid=sum(verdict.failure is not None for verdict in answers),
        category=pair.category,
    )
