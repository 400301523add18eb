"""One rubric out of many criteria: a few themes with tips, what means the same merged."""

from pydantic import BaseModel

from ..judges.questions import Question
from ..rubrics import Criterion
from .config import AutoRubricConfig
from .writer import Writer, distinct, refuse_comparisons, themes_reply


def structure_question(criteria: list[str], task: str, writer: Writer, config: AutoRubricConfig) -> Question:
    """
    Ask for themes; the answer is a list of [`Criterion`] in the order of the themes.

    Args:
        criteria (`list[str]`): verified criteria, without repetitions.
        task (`str`): `"text-to-image"` or `"image-editing"`.
        writer ([`Writer`]): who is asked.
        config ([`AutoRubricConfig`]): `max_themes`, `max_tips`.
    """
    return writer.question(
        "structure",
        themes_reply(config.max_themes, config.max_tips),
        prompt="",
        read=_criteria_of_themes,
        criteria=criteria,
        editing=task == "image-editing",
        max_themes=config.max_themes,
        max_tips=config.max_tips,
    )


def zero_shot_question(description: str, task: str, writer: Writer, config: AutoRubricConfig) -> Question:
    """Ask for themes from the description of a task alone, before any image is seen; the answer as above."""
    return writer.question(
        "zero_shot",
        themes_reply(config.max_themes, config.max_tips),
        prompt=description,
        read=_criteria_of_themes,
        editing=task == "image-editing",
        max_themes=config.max_themes,
        max_tips=config.max_tips,
    )


def _criteria_of_themes(reply: BaseModel) -> list[Criterion]:
    """Themes keep their order; a theme that comes twice is one, and so is a tip."""
    themes: dict[str, list[str]] = {}
    for theme in reply.themes:
        themes.setdefault(" ".join(theme.theme.split()), []).extend(theme.tips)
    kept = set(distinct([tip for tips in themes.values() for tip in tips]))
    criteria = []
    for theme, tips in themes.items():
        for tip in distinct(tips):
            if tip in kept:
                kept.remove(tip)
                criteria.append(Criterion(text=tip, theme=theme))
    refuse_comparisons([criterion.text for criterion in criteria])
    return criteria
