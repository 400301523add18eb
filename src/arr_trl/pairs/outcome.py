"""What became of every pair that could have been, and when there is no use in going on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ..autorubric.writer import NoAnswer
from ..data import MASK_COLUMN, SOURCE_COLUMN, decode_sources, load_mask
from ..judges import JudgeRow, Verdict
from .config import PairsConfig
from .painter import Source, opened, source_digests
from .replies import Fault


# What is told before each stage: its name, how many things it does, and what these are.
OnStage = Callable[[str, int, str], None]
# How many pictures were drawn since the last time.
OnDrawn = Callable[[int], None]


class PairsError(RuntimeError):
    """Pairs that cannot be made; the message says why and what to do. What was answered and drawn is kept."""


@dataclass
class PairOutcome:
    """
    A pair that is made, or why there is none.

    Args:
        prompt (`str`): the caption, or the instruction of an edit.
        source (`PIL.Image.Image` or `list` of them, *optional*): what was edited.
        mask (`PIL.Image.Image`, *optional*): white where that was to be drawn anew, as the row says.
        images (`list[Path]`): its pictures, as far as they are drawn.
        seeds (`list[int]`): the seed of each.
        verdict ([`Verdict`], *optional*): the judge's, on the two pictures in both orders.
        reason (`str`, *optional*): why there is no pair, in few words.
        problem (`str`, *optional*): what exactly went wrong, where there is more to say.
        faults (`list[Fault]`): what was found wrong with the first picture.
        mended (`list[Fault]`): those of them that the instruction is about.
        instruction (`str`, *optional*): what the editor was told.
        columns (`Mapping`): the row of the prompt, of which presets read some columns.
    """

    prompt: str
    source: Source = None
    mask: Image.Image | None = None
    images: list[Path] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    verdict: Verdict | None = None
    reason: str | None = None
    problem: str | None = None
    faults: list[Fault] = field(default_factory=list)
    mended: list[Fault] = field(default_factory=list)
    instruction: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    def judge_row(self) -> JudgeRow:
        """Its pictures as a judge is asked about them: with the original prompt."""
        return JudgeRow(self.prompt, tuple(map(opened, self.images)), self.source, columns=self.columns)

    @property
    def open(self) -> bool:
        """Whether it is neither decided nor dropped yet."""
        return self.reason is None and self.verdict is None

    @property
    def made(self) -> bool:
        """Whether it is a pair."""
        return self.verdict is not None

    def drop(self, reason: str, problem: str | None = None) -> None:
        """Give the pair up."""
        self.reason, self.problem, self.verdict = reason, problem, None

    def decide(self, verdict: Verdict) -> None:
        """Label the pair, or drop it where the judge decides for neither picture."""
        if verdict.failure is not None:
            self.drop("no verdict", verdict.failure)
        elif verdict.winner is None:
            self.drop("orders disagree" if verdict.consistent is False else "tie")
        else:
            self.verdict = verdict


def dropped_by_reason(outcomes: Sequence[PairOutcome]) -> dict[str, int]:
    """How many pairs were dropped for each reason, the commonest first."""
    return dict(Counter(outcome.reason for outcome in outcomes if outcome.reason is not None).most_common())


def told_apart(rows: Sequence[dict[str, Any]], taken: set[tuple]) -> list[dict[str, Any]]:
    """
    The rows with their sources decoded, and without those whose prompt, source and mask are `taken` or stand there twice:
    they would be the same pictures again.
    """
    kept = []
    for row in decode_sources(list(rows)):
        source = row.get(SOURCE_COLUMN)
        key = (row["prompt"], *source_digests(source), *source_digests(load_mask(row.get(MASK_COLUMN), source)))
        if key not in taken:
            taken.add(key)
            kept.append(row)
    return kept


def stop_when_broken(stage: str, found: Sequence[Any], config: PairsConfig) -> None:
    """
    Raises:
        [`PairsError`]: when more of the answers than `max_failure_rate` are missing.
    """
    problems = [
        item.problem if isinstance(item, NoAnswer) else item.failure
        for item in found
        if isinstance(item, NoAnswer) or (isinstance(item, Verdict) and item.failure is not None)
    ]
    if found and len(problems) > config.max_failure_rate * len(found):
        raise PairsError(
            f"{len(problems)} of {len(found)} questions got no answer in the stage {stage!r}. The last: {problems[-1]} "
            "Repair the cause and run it again; what was answered and drawn is kept."
        )
