"""`rubric="auto"`: criteria written for each prompt by the chat model, from the prompt alone, before any image is seen."""

from functools import lru_cache
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, create_model

from ..chat import ChatModel
from ..rubrics import Criterion, Rubric
from .questions import Question
from .template_question import template_question


def auto_rubric_question(
    prompt: str, task: str, model: ChatModel, language: str, num_criteria: int, max_tokens: int, temperature: float
) -> Question:
    """
    Ask for at most `num_criteria` criteria for `prompt`; the answer reads as a [`Rubric`].

    Args:
        prompt (`str`): the caption or instruction.
        task (`str`): `"text-to-image"` or `"image-editing"`.
        model ([`ChatModel`]): the chat model that is asked.
        language (`str`): language of the template.
        num_criteria (`int`): most criteria.
        max_tokens (`int`): longest reply.
        temperature (`float`): sampling temperature.
    """
    return template_question(
        f"auto_rubric.{language}",
        model,
        criteria_reply(num_criteria),
        prompt=prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        read=lambda reply: Rubric(
            name="auto", criteria=[Criterion(text=c.text, essential=c.essential) for c in reply.criteria], task=task
        ),
        editing=task == "image-editing",
        k=num_criteria,
    )


@lru_cache(maxsize=8)
def criteria_reply(k: int) -> type[BaseModel]:
    """The reply that holds one to `k` criteria."""
    strict = ConfigDict(strict=True, extra="forbid")
    # at least one character that is not white space
    text = Annotated[str, Field(pattern=r"\S")]
    criterion = create_model("Criterion", __config__=strict, text=(text, ...), essential=(bool, ...))
    criteria = Annotated[list[criterion], Field(min_length=1, max_length=k)]
    return create_model("Criteria", __config__=strict, criteria=(criteria, ...))
