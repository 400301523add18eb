"""A page of labelled pairs with what a judge said of them: beside `judge eval`, `rubric verify` and `rubric generate`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data import load_mask
from ..data.preferences import Preference
from ..folders import replacing
from ..judges import Verdict
from ..rubrics import Rubric
from .grid import side_by_side
from .pairs_page import page_stream, short_pair
from .reasons import with_names
from .records import PairRecord, pair_record
from .thumbnails import PER_BLOCK, blocks_of, fitted, thumbnail


_SIDE = 320  # pixels of a thumbnail's longer side
LABELLED, LEVEL = ("preferred", "other"), ("one", "the other")
_AGREES = ("The judge agrees with the label", "The judge prefers the other")
_PLACES = ("first", "second")  # images of a pair in the order of the data


@dataclass(frozen=True)
class Figures:
    """Rows of figures under headings, the first cell of each being its name."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


class JudgeReport:
    """
    Collects pairs and writes the page. Pictures are inside the file; of a large data set the first pairs are kept.

    Args:
        most (`int`, *optional*, defaults to `500`): pairs that are kept.
        placed (`bool`, *optional*, defaults to `True`):
            whether the judge's words number the images in the order of the data, and those of the other order the other
            way round, so that names can take the place of numbers.
    """

    def __init__(self, most: int = 500, placed: bool = True):
        self.most = most
        self.placed = placed
        self.seen = 0
        self._pairs: list[Preference] = []
        self._records: list[PairRecord] = []
        self._notes: list[Sequence[str]] = []
        self._thumbnails: list[str] = []
        self._sources: list[str] = []
        self._masks: list[str] = []
        self._size: list[int] = [_SIDE, _SIDE]

    def add(self, pair: Preference, record: PairRecord, notes: Sequence[str] = ()) -> None:
        """
        A pair, and what was said of its images in the order of the data.

        Args:
            pair ([`Preference`]): with its label.
            record ([`PairRecord`]): the judge's verdict, 0 being the pair's first image.
            notes (`Sequence[str]`, *optional*): sentences below it.
        """
        self.seen += 1
        if len(self._pairs) >= self.most:
            return
        if not self._pairs:
            self._size = fitted(pair.images[0].size, _SIDE)
        # the preferred picture stands first, and the judge's choice of 0 agrees with the label
        turned = pair.winner == 1
        images = pair.images[::-1] if turned else pair.images
        self._thumbnails += [thumbnail(image.copy(), _SIDE) for image in images]
        source = pair.source_image
        if source is not None:
            shown = side_by_side(source) if isinstance(source, list) else source.copy()
            self._sources.append(thumbnail(shown, _SIDE))
        else:
            self._sources.append("")
        mask = load_mask(pair.mask_image, source)
        self._masks.append("" if mask is None else thumbnail(mask, _SIDE))
        number = len(self._pairs)
        self._pairs.append(
            replace(pair, images=(), source_image=None, mask_image=None)
        )  # pictures of thousands are not kept
        if self.placed:
            names = LEVEL if pair.winner is None else LABELLED[::-1] if turned else LABELLED
            said = with_names(record.reason, names), with_names(record.reason_reversed, names[::-1])
            record = replace(record, reason=said[0], reason_reversed=said[1])
        self._records.append(replace(_turned(record) if turned else record, prompt=number, image=0))
        self._notes.append([f"Row {pair.row}.", *notes] if pair.row is not None else notes)

    def write(
        self,
        path: str | Path,
        title: str,
        answers: Sequence[str],
        tables: Sequence[Figures] = (),
        rubric: Rubric | None = None,
        judge: str = "",
    ) -> Path:
        """
        Write the page.

        Args:
            path (`str` or `Path`): the HTML file.
            title (`str`): its heading.
            answers (`Sequence[str]`): what was found, a sentence each.
            tables (`Sequence[Figures]`, *optional*): figures.
            rubric ([`Rubric`], *optional*): what was judged by.
            judge (`str`, *optional*): model of the judge.
        """
        comparisons = [LABELLED, *([LEVEL] if any(pair.winner is None for pair in self._pairs) else [])]
        pairs = []
        for pair, record, notes in zip(self._pairs, self._records, self._notes, strict=True):
            place = 1 if pair.winner is None else 0
            short = short_pair(record, place, None)
            pairs.append(short | {"n": list(notes)})
        with_sources, with_masks = any(self._sources), any(self._masks)
        data: dict[str, Any] = {
            "models": list(LABELLED),
            "folders": None,
            "comparisons": [
                {"names": names, "models": [0, 1], "truth": _AGREES if names == LABELLED else None}
                for names in comparisons
            ],
            "criteria": {} if rubric is None else {i: c.text for i, c in enumerate(rubric.criteria, start=1)},
            "prompts": [pair.prompt for pair in self._pairs],
            "pairs": pairs,
            "perPrompt": 1,
            "perBlock": PER_BLOCK,
            "sources": len(self._thumbnails) if with_sources else None,
            "masks": len(self._thumbnails) + len(self._sources) if with_masks else None,
            "size": self._size,
            "curves": [],
            "kinds": [],
        }
        told = [record for record in self._records if record.failure is None]
        stream = page_stream(
            "judge_report.html.jinja2",
            data,
            blocks_of([*self._thumbnails, *(self._sources * with_sources), *(self._masks * with_masks)]),
            title=title,
            answers=answers,
            tables=tables,
            shown=len(self._pairs),
            seen=self.seen,
            several=len(comparisons) > 1,
            against=sum(
                r.winner == 1 for r, p in zip(self._records, self._pairs, strict=True) if p.winner is not None
            ),
            disagreements=sum(record.consistent is False for record in told),
            failures=sum(record.failure is not None for record in self._records),
            rubric_text=None if rubric is None else rubric.render(),
            judge=judge,
        )
        path = Path(path)
        with replacing(path) as written, written.open("w", encoding="utf-8") as file:
            file.writelines(stream)
        return path


def record_of_both(forward: Verdict, swapped: Verdict) -> PairRecord:
    """One record of two questions about a pair, of which the second showed its images in the other order."""
    failure = forward.failure or swapped.failure
    if failure is not None:
        return record_of(Verdict(failure=failure))
    leads = (forward.lead, swapped.lead)
    of_swapped = {found.criterion: found.winner for found in swapped.criteria}
    both = Verdict(
        winner=forward.winner if _agree(forward.winner, swapped.winner) else None,
        consistent=forward.winner is swapped.winner is None or _agree(forward.winner, swapped.winner),
        margin=None if None in leads else abs(leads[0] - leads[1]) / 2,
        criteria=tuple(
            replace(found, winner=found.winner if _agree(found.winner, of_swapped.get(found.criterion)) else None)
            for found in forward.criteria
        ),
        reason=forward.reason,
    )
    return pair_record((0, 0), _PLACES, both, forward, swapped, {})


def record_of(verdict: Verdict) -> PairRecord:
    """The record of a verdict that is of both orders already."""
    return pair_record((0, 0), _PLACES, verdict, None, None, {})


def _agree(one: int | None, other: int | None) -> bool:
    """Whether two orders name the same image."""
    return one is not None and other == 1 - one


def _turned(record: PairRecord) -> PairRecord:
    """The same of the pair with its images exchanged: what was the other order is the first one."""
    flip = {0: 1, 1: 0, None: None}
    words = (record.reason, record.reason_reversed)
    return replace(
        record,
        winner=flip[record.winner],
        margin=None if record.margin is None else -record.margin,
        orders=tuple(flip[winner] for winner in record.orders[::-1]),
        **(dict(zip(("reason", "reason_reversed"), words[::-1], strict=True)) if all(words) else {}),
        criteria=tuple((number, flip[winner]) for number, winner in record.criteria),
    )
