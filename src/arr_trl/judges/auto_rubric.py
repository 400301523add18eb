"""`rubric="auto"`: criteria written for each prompt by the chat model, from the prompt alone, before any image is seen."""

from functools import lru_cache
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, create_model

from ..chat import ChatModel, ChatRequest
from ..rubrics import Criterion, Rubric
from .parsing import json_schema, parse_reply
from .prompts import render_content, template_id
from .questions import Question, content_key
from .store import StoredAnswer


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
    name = f"auto_rubric.{language}"
    template = template_id(name)
    reply_model = criteria_reply(num_criteria)

    def request() -> ChatRequest:
        content = render_content(name, images=[], prompt=prompt, editing=task == "image-editing", k=num_criteria)
        return ChatRequest(
            [{"role": "user", "content": content}],
            json_schema=json_schema(reply_model),
            max_tokens=max_tokens,
            temperature=temperature,
        )

    def read(answer: StoredAnswer) -> Rubric:
        reply = parse_reply(answer.reply, reply_model)
        criteria = [Criterion(text=c.text, essential=c.essential) for c in reply.criteria]
        return Rubric(name="auto", criteria=criteria, task=task)

    key = content_key(model.model, model.settings, temperature, max_tokens, template, task, num_criteria, prompt)
    blank = StoredAnswer(
        key=key,
        status="failed",
        model=model.model,
        template=template,
        rubric="",
        prompt=prompt,
        images=(),
        positions=(),
        asked=0,
    )
    return Question(blank, request, read)


@lru_cache(maxsize=8)
def criteria_reply(k: int) -> type[BaseModel]:
    """The reply that holds one to `k` criteria."""
    strict = ConfigDict(strict=True, extra="forbid")
    # at least one character that is not white space
    text = Annotated[str, Field(pattern=r"\S")]
    criterion = create_model("Criterion", __config__=strict, text=(text, ...), essential=(bool, ...))
    criteria = Annotated[list[criterion], Field(min_length=1, max_length=k)]
    return create_model("Criteria", __config__=strict, criteria=(criteria, ...))
