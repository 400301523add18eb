"""Rewriting criteria that did not lead to the label, from what the verifier found with them."""

from ..data.preferences import Preference
from ..judges import JudgeRow, Verdict
from ..judges.questions import Question
from .config import AutoRubricConfig
from .generate import preferred, shown
from .writer import Writer, criteria_reply, read_criteria


def refine_question(
    pair: Preference, swapped: bool, criteria: list[str], verdict: Verdict, writer: Writer, config: AutoRubricConfig
) -> Question:
    """
    Ask for better criteria; the answer is a list of them.

    Args:
        pair ([`Preference`]): the labelled pair.
        swapped (`bool`): whether the writer is shown its images the other way round.
        criteria (`list[str]`): what failed.
        verdict ([`Verdict`]): what the verifier said under them.
        writer ([`Writer`]): who is asked.
        config ([`AutoRubricConfig`]): `num_criteria`.
    """
    outcomes = {pair.winner: "preferred", 1 - pair.winner: "other", None: "level"}
    return writer.question(
        "refine",
        criteria_reply(config.num_criteria),
        prompt=pair.prompt,
        images=shown(pair, swapped),
        positions=(1, 0) if swapped else (0, 1),
        mask=JudgeRow.of(pair).mask,
        read=read_criteria,
        editing=pair.source_image is not None,
        preferred=preferred(pair, swapped),
        k=config.num_criteria,
        findings=[
            {"text": text, "finding": outcomes[result.winner]}
            for text, result in zip(criteria, verdict.criteria, strict=True)
        ],
        # the judge's words number the images in the order of the data
        reason="" if swapped else verdict.reason,
    )
