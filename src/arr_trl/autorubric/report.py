"""What became of every pair, for people and as JSON."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..data.preferences import Preference
from ..folders import replacing
from ..judges import Verdict
from ..rubrics import Rubric
from .holdout import Agreement, agreement, winners_of


CRITERION_COLUMNS = ("criterion", "for the winner", "for the loser", "level")


@dataclass
class PairOutcome:
    """
    What became of one pair that criteria were written from.

    Args:
        row (`int`, *optional*): number of its row in the data.
        prompt (`str`): its caption or instruction.
        criteria (`list[str]`): its latest criteria.
        rounds (`int`): how often they were rewritten.
        passed (`bool`): whether they led the verifier to the label.
        reason (`str`, *optional*): why the pair was dropped, in few words.
        problem (`str`, *optional*): what exactly went wrong, where there is more to say.
        verified (`list[str]`): the criteria that the verifier found in favour of the winner.
        doubtful (`bool`): whether the finished rubric says the contrary of the label: a pair to look at by hand.
    """

    row: int | None
    prompt: str
    criteria: list[str] = field(default_factory=list)
    rounds: int = 0
    passed: bool = False
    reason: str | None = None
    problem: str | None = None
    verified: list[str] = field(default_factory=list)
    doubtful: bool = False

    @property
    def open(self) -> bool:
        """Whether it is neither passed nor dropped yet."""
        return not self.passed and self.reason is None

    def drop(self, reason: str, problem: str | None = None) -> None:
        """Give the pair up."""
        self.reason, self.problem = reason, problem


@dataclass
class Report:
    """
    What a run found beside the rubric.

    Args:
        rubric ([`Rubric`]): the rubric.
        outcomes (`list[PairOutcome]`): one per pair that criteria were written from.
        with_rubric ([`Agreement`], *optional*): the judge on the held-out pairs with the rubric.
        without_rubric ([`Agreement`], *optional*): the same judge without one.
        held_out (`list[tuple[Preference, Verdict]]`): the held-out pairs and the judge's verdicts with the rubric.
        notes (`list[str]`): what the user should know, one sentence each.
        skipped (`list[str]`): rows of the data that could not be used.
        cost (`dict`): requests, tokens, and money where prices are known, of this run.
    """

    rubric: Rubric
    outcomes: list[PairOutcome]
    with_rubric: Agreement | None = None
    without_rubric: Agreement | None = None
    held_out: list[tuple[Preference, Verdict]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        content = {
            "counts": self.rubric.provenance.counts,
            "dropped": self.rubric.provenance.dropped,
            "holdout": self.rubric.provenance.holdout,
            "cv_accuracy": self.rubric.provenance.cv_accuracy,
            "notes": self.notes,
            "skipped": self.skipped,
            "cost": self.cost,
            "pairs": [asdict(outcome) for outcome in self.outcomes],
        }
        with replacing(path) as written:
            written.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def print(self, console: Console | None = None) -> None:
        """Print the rubric and the figures."""
        console = console or Console()
        console.print(escape(self.rubric.render()), highlight=False, soft_wrap=True)
        table = Table(title=f"Rubric {escape(self.rubric.name)}", title_justify="left")
        table.add_column("measure")
        table.add_column("value", justify="right")
        for name, count in self.rubric.provenance.counts.items():
            table.add_row(name.replace("_", " "), f"{count:,}")
        for reason, count in self.rubric.provenance.dropped.items():
            table.add_row(f"dropped: {escape(reason)}", f"{count:,}")
        table.add_section()
        if self.rubric.provenance.cv_accuracy is not None:
            table.add_row("accuracy of the weights, cross-validated", f"{self.rubric.provenance.cv_accuracy:.1%}")
        for name, found in (("with the rubric", self.with_rubric), ("without a rubric", self.without_rubric)):
            if found is not None:
                table.add_row(f"held-out accuracy {name} \\[95% interval]", _rate(found))
                table.add_row("  ties, no verdict", f"{found.ties}, {found.failures} of {found.pairs}")
        table.add_section()
        for name, value in self.cost.items():
            table.add_row(name.replace("_", " "), f"{value:,.2f}" if isinstance(value, float) else f"{value:,}")
        console.print(table, highlight=False)
        for note in self.notes:
            console.print(escape(note), highlight=False, soft_wrap=True)


def print_agreement(
    rubric: Rubric,
    verdicts: list[Verdict],
    pairs: list[Preference],
    without_rubric: Agreement,
    console: Console | None = None,
) -> None:
    """
    Print how a judge agrees with labels under a rubric, as a whole and criterion by criterion, and without one.

    Args:
        rubric ([`Rubric`]): the rubric.
        verdicts (`list[Verdict]`): what the judge said of the pairs under it.
        pairs (`list[Preference]`): the labelled pairs.
        without_rubric ([`Agreement`]): the same judge without a rubric.
        console (`rich.console.Console`, *optional*): where to print; standard output by default.
    """
    console = console or Console()
    table = Table(title=f"Judge on {len(pairs)} labelled pairs, both orders", title_justify="left")
    for heading in ("", "accuracy \\[95% interval]", "ties", "no verdict"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, found in (
        ("with the rubric", agreement(winners_of(verdicts), pairs)),
        ("without a rubric", without_rubric),
    ):
        table.add_row(name, _rate(found), str(found.ties), str(found.failures))
    console.print(table, highlight=False)
    table = Table(title="What each criterion said", title_justify="left")
    for heading in CRITERION_COLUMNS:
        table.add_column(heading, justify="left" if heading == "criterion" else "right")
    for criterion, *counts in said_by_criterion(rubric, verdicts, pairs):
        table.add_row(escape(criterion), *counts)
    console.print(table, highlight=False)


def said_by_criterion(rubric: Rubric, verdicts: list[Verdict], pairs: list[Preference]) -> list[list[str]]:
    """For each criterion its number and text, and on how many pairs it spoke for the winner, for the loser, for neither."""
    decided = [(v, p.winner) for v, p in zip(verdicts, pairs, strict=True) if v.failure is None]
    rows = []
    for number, criterion in enumerate(rubric.criteria):
        said = Counter(
            None if v.criteria[number].winner is None else v.criteria[number].winner == w for v, w in decided
        )
        rows.append([f"{number + 1}. {criterion.text}", *(str(said[key]) for key in (True, False, None))])
    return rows


def _rate(found: Agreement) -> str:
    low, high = found.interval
    return f"{found.accuracy:.1%} \\[{100 * low:.1f}, {100 * high:.1f}]"


def dropped_by_reason(outcomes: list[PairOutcome]) -> dict[str, int]:
    """How many pairs were dropped for each reason, the commonest first."""
    return dict(Counter(outcome.reason for outcome in outcomes if outcome.reason is not None).most_common())
