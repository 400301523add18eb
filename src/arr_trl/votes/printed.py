"""How raters agree, for people: on the terminal and as a page."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..evaluation.page import asset, page_environment
from .agreement import TwoRaters, VotesAgreement


# The page asks nothing of anybody.
_ALONE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def print_agreement(found: VotesAgreement, console: Console | None = None) -> None:
    """
    Print what votes say together.

    Args:
        found ([`VotesAgreement`]): what [`agreement_of`] found.
        console (`rich.console.Console`, *optional*): where to print; standard output by default.
    """
    console = console or Console()
    table = Table(title="Votes", title_justify="left")
    for heading in ("rater", "votes", "ties"):
        table.add_column(heading, justify="left" if heading == "rater" else "right")
    for name, counts in found.raters.items():
        table.add_row(escape(name), str(counts["votes"]), str(counts["ties"]))
    console.print(table, highlight=False)
    for title, some in (("Between raters", found.between), ("With labels", found.with_labels)):
        if some:
            table = Table(title=title, title_justify="left")
            for heading in ("rater", "and", "pairs", "the same", "κ \\[95% interval]"):
                table.add_column(heading, justify="left" if heading in ("rater", "and") else "right")
            for two in some:
                table.add_row(*map(escape, two.names), str(two.pairs), f"{two.same:.0%}", _kappa(two))
            console.print(table, highlight=False)
    for name, won in found.models.items():
        low, high = won["interval"] or (0.0, 1.0)
        console.print(
            f"{name}: preferred in {won['win_rate']:.0%} [{100 * low:.0f}, {100 * high:.0f}] of {won['votes']} votes, a tie "
            "counts one half.",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def agreement_html(title: str, found: VotesAgreement, policy: str = _ALONE) -> str:
    """
    The same as a page.

    Args:
        title (`str`): what was voted on.
        found ([`VotesAgreement`]): what [`agreement_of`] found.
        policy (`str`, *optional*): what the page may load; by default nothing.
    """
    template = page_environment("arr_trl.votes").get_template("agreement.html.jinja2")
    return template.render(title=title, agreement=found, policy=policy, style=asset("templates/report.css"))


def _kappa(two: TwoRaters) -> str:
    if two.kappa is None:
        return "not defined"
    return f"{two.kappa:.2f}" + ("" if two.interval is None else " \\[{:.2f}, {:.2f}]".format(*two.interval))
