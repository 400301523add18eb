"""Criteria for each pair: from its images and what people preferred, or from its prompt alone."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from ..data.preferences import Preference
from ..judges import JudgeRow
from ..judges.auto_rubric import auto_rubric_question
from ..judges.questions import Question
from .config import AutoRubricConfig
from .writer import Writer, criteria_reply, distinct, read_criteria


def shown_swapped(pairs: Sequence[Preference]) -> list[bool]:
    """Which pairs the writer is shown the other way round, so that every second winner stands first."""
    return [pair.winner != number % 2 for number, pair in enumerate(pairs)]


def generate_questions(
    pairs: Sequence[Preference], writer: Writer, config: AutoRubricConfig, guide: Sequence[Preference] = ()
) -> list[Question]:
    """
    One question for each pair; its answer is a list of criteria.

    Args:
        pairs (`Sequence[Preference]`): labelled pairs.
        writer ([`Writer`]): who is asked.
        config ([`AutoRubricConfig`]): `method`, `num_criteria`.
        guide (`Sequence[Preference]`, *optional*): curated examples with a `rationale`, shown before every pair.
    """
    if config.method == "zero-shot":
        return [_from_prompt(pair, writer, config) for pair in pairs]
    exemplars, guide_images = _exemplars(guide)
    return [
        writer.question(
            "generate",
            criteria_reply(config.num_criteria),
            prompt=pair.prompt,
            images=[*shown(pair, swapped), *guide_images],
            positions=(1, 0) if swapped else (0, 1),
            mask=JudgeRow.of(pair).mask,
            read=read_criteria,
            editing=pair.source_image is not None,
            preferred=preferred(pair, swapped),
            k=config.num_criteria,
            exemplars=exemplars,
        )
        for pair, swapped in zip(pairs, shown_swapped(pairs), strict=True)
    ]


def check_guide(guide: Sequence[Preference]) -> None:
    """
    Raises:
        `ValueError`: when an example does not say why its winner was preferred.
    """
    for example in guide:
        if not example.rationale:
            raise ValueError(
                f"Row {example.row} of the guide has no `rationale`, which says why its image was preferred."
            )


def shown(pair: Preference, swapped: bool) -> list[Image.Image | list[Image.Image] | None]:
    """What the templates call image 0 (the source of an edit, if it is one), 1 and 2."""
    return [pair.source_image, *(pair.images[::-1] if swapped else pair.images)]


def preferred(pair: Preference, swapped: bool) -> int:
    """Number of the preferred image, as it is shown."""
    return (1 - pair.winner if swapped else pair.winner) + 1


def _from_prompt(pair: Preference, writer: Writer, config: AutoRubricConfig) -> Question:
    question = auto_rubric_question(
        pair.prompt,
        "text-to-image" if pair.source_image is None else "image-editing",
        writer.model,
        writer.language,
        config.num_criteria,
        writer.max_tokens,
        writer.temperature,
    )
    return Question(
        question.blank, question.request, lambda answer: distinct([c.text for c in question.read(answer).criteria])
    )


def _exemplars(guide: Sequence[Preference]) -> tuple[list[dict[str, Any]], list[Image.Image | list[Image.Image]]]:
    """What the template says of each example, and their images, which stand behind the three of the pair."""
    check_guide(guide)
    exemplars, images = [], []
    for example in guide:
        numbers = {"source": None}
        for name, image in (
            ("source", example.source_image),
            ("winner", example.images[example.winner]),
            ("loser", example.images[1 - example.winner]),
        ):
            if image is not None:
                numbers[name] = 3 + len(images)
                images.append(image)
        exemplars.append({"prompt": example.prompt, "rationale": example.rationale, **numbers})
    return exemplars, images
