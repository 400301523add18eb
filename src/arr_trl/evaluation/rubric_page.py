"""The pairs behind a rubric as a page: what was written from each, and what the judge says of them under it."""

from collections.abc import Sequence
from pathlib import Path

from ..autorubric.holdout import Agreement, agreement, winners_of
from ..autorubric.report import CRITERION_COLUMNS, PairOutcome, Report, said_by_criterion
from ..data.preferences import Preference
from ..judges import Verdict
from ..rubrics import Rubric
from .answer import shown_rate
from .judge_report import Figures, JudgeReport, record_of
from .records import PairRecord


def write_verified(
    path: str | Path,
    rubric: Rubric,
    verdicts: list[Verdict],
    pairs: list[Preference],
    without_rubric: Agreement,
    judge: str,
) -> Path:
    """
    The page of `arr-trl rubric verify`.

    Args:
        path (`str` or `Path`): the HTML file.
        rubric ([`Rubric`]): the rubric.
        verdicts (`list[Verdict]`): what the judge said of the pairs under it.
        pairs (`list[Preference]`): the labelled pairs.
        without_rubric ([`Agreement`]): the same judge without a rubric.
        judge (`str`): its model.
    """
    page = JudgeReport()
    for pair, verdict in zip(pairs, verdicts, strict=True):
        page.add(pair, record_of(verdict))
    found = agreement(winners_of(verdicts), pairs)
    said = Figures("What each criterion said", CRITERION_COLUMNS, said_by_criterion(rubric, verdicts, pairs))
    return page.write(
        path, f"{rubric.name} on labelled pairs", [_answer(found, without_rubric)], [said], rubric, judge
    )


def write_generated(path: str | Path, report: Report, pairs: Sequence[Preference], judge: str) -> Path:
    """
    The page of `arr-trl rubric generate`: the held-out pairs with the judge's verdicts, then those that criteria were
    written from with what became of them.

    Args:
        path (`str` or `Path`): the HTML file.
        report ([`Report`]): what the run found.
        pairs (`Sequence[Preference]`): those that criteria were written from.
        judge (`str`): model of the judge.
    """
    page = JudgeReport()
    for pair, verdict in report.held_out:
        page.add(pair, record_of(verdict), ["Held out: nothing was written from it."])
    for pair, outcome in zip(pairs, report.outcomes, strict=True):
        page.add(pair, _fate(pair, outcome), _notes(outcome))
    if report.with_rubric is not None and report.without_rubric is not None:
        said = _answer(report.with_rubric, report.without_rubric)
        answer = f"On pairs that were held out, {said[0].lower()}{said[1:]}"
    else:
        answer = "No pairs were held out, so that nothing is known of how the rubric judges others."
    figures = Figures(
        "What became of the pairs",
        ("", "number"),
        [(name.replace("_", " "), f"{count:,}") for name, count in report.rubric.provenance.counts.items()],
    )
    return page.write(
        path, f"How {report.rubric.name} was written", [answer, *report.notes], [figures], report.rubric, judge
    )


def _answer(with_rubric: Agreement, without_rubric: Agreement) -> str:
    shown = [shown_rate(found.accuracy, found.interval) for found in (with_rubric, without_rubric)]
    return (
        f"With the rubric the judge names the preferred picture of {shown[0]} of {with_rubric.pairs:,} pairs, without one "
        f"of {shown[1]}."
    )


def _fate(pair: Preference, outcome: PairOutcome) -> PairRecord:
    """A pair that passed agrees with its label; one that the finished rubric decides otherwise is shown as such."""
    if outcome.doubtful and pair.winner is not None:
        return record_of(Verdict(winner=1 - pair.winner))
    if outcome.passed:
        return record_of(Verdict(winner=pair.winner))
    return record_of(Verdict(failure=f"Dropped: {outcome.reason}."))


def _notes(outcome: PairOutcome) -> list[str]:
    notes = ["The finished rubric says the contrary of the label: look at it by hand."] if outcome.doubtful else []
    if outcome.reason is not None:
        notes.append(f"Dropped: {outcome.reason}.{' ' + outcome.problem if outcome.problem else ''}")
    verified = set(outcome.verified)
    return notes + [f"{'Verified' if text in verified else 'Written'}: {text}" for text in outcome.criteria]
