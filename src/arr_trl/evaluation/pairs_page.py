"""What pages that show pairs have in common: their scripts and styles, and a pair as the script reads it."""

from collections.abc import Iterable
from typing import Any

from jinja2.environment import TemplateStream
from markupsafe import Markup

from .page import asset, json_of_page, page_environment
from .reasons import with_names
from .records import PairRecord
from .results import percent
from .summary import with_interval


def page_stream(template: str, data: dict[str, Any], thumbnails: Iterable[Markup], **facts: Any) -> TemplateStream:
    """A page of pairs, to be written piece by piece: its scripts and styles, and what a template says of its `facts`."""
    curves, votes = bool(data["curves"]), bool(data["kinds"])
    scripts = [
        "report.js",
        "lightbox.js",
        *(["charts.js"] if curves else []),
        *(["vote.js", "report_vote.js"] if votes else []),
    ]
    styles = [
        asset("templates/report.css"),
        asset("templates/vote.css") if votes else "",
        asset("vendor/uplot/uPlot.min.css") if curves else "",
    ]
    html = page_environment().get_template(template)
    return html.stream(
        data=json_of_page(data),
        thumbnails=thumbnails,
        has_curves=curves,
        style=Markup("").join(styles),
        chart_library=asset("vendor/uplot/uPlot.iife.min.js") if curves else "",
        scripts=[asset(f"templates/{name}") for name in scripts],
        interval=with_interval,
        percent=percent,
        **facts,
    )


def short_pair(pair: PairRecord, comparison: int, names: tuple[str, str] | None) -> dict[str, Any]:
    """
    A comparison as the script reads it; ten thousand of them should stay small.

    Args:
        pair ([`PairRecord`]): the comparison.
        comparison (`int`): which two models' it is.
        names (`tuple[str, str]`, *optional*): what the judge's words call the two; they stay as they are where it is not
            known which was shown first.
    """
    forward, swapped = pair.reason, pair.reason_reversed
    if names is not None:
        forward, swapped = with_names(forward, names), with_names(swapped, names[::-1])
    return {
        "p": pair.prompt,
        "k": pair.image,
        "c": comparison,
        "w": pair.winner,
        "f": pair.failure,
        "a": pair.consistent,
        "g": pair.margin,
        "r": forward,
        "s": swapped,
        "o": pair.orders,
        "t": pair.criteria,
        "v": pair.rewards,
    }
