"""The model that writes: generates, refines and structures criteria. It sees labels; the verifier never does."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from ..chat import ChatModel
from ..judges.parsing import ReplyError
from ..judges.questions import Question, ask
from ..judges.stats import JudgeStats
from ..judges.store import VerdictStore
from ..judges.template_question import template_question


PACKAGE = "arr_trl.autorubric"
_TEXT = Annotated[str, Field(pattern=r"\S", max_length=1000)]
_COMPARES = re.compile(
    r"\b(?:image|picture)s? ?[12]\b|\bthe (?:other|second|preferred) (?:image|picture)\b|图像 ?[12]|另一张",
    re.IGNORECASE,
)


class AutoRubricError(RuntimeError):
    """A rubric that could not be written; the message says why and what to do. What was answered is in the store."""


@dataclass(frozen=True)
class NoAnswer:
    """Why there is no answer: `failed` when no reply came, else the replies could not be used."""

    problem: str
    failed: bool


@dataclass
class Writer:
    """
    Asks a chat model in the words of templates.

    Args:
        model ([`ChatModel`]): the chat model.
        store ([`VerdictStore`]): keeps every answer.
        language (`str`): language of the templates.
        max_tokens (`int`): longest reply.
        temperature (`float`): sampling temperature.
        stats ([`JudgeStats`]): what it has cost.
        templates (`set[str]`): the templates it has asked with.
        package (`str`, *optional*): the package whose templates they are; by default this one.
    """

    model: ChatModel
    store: VerdictStore
    language: str
    max_tokens: int
    temperature: float
    stats: JudgeStats = field(default_factory=JudgeStats)
    templates: set[str] = field(default_factory=set)
    package: str = PACKAGE

    def question(self, template: str, reply_model: type[BaseModel], **values: Any) -> Question:
        return template_question(
            f"{template}.{self.language}",
            self.model,
            reply_model,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            package=self.package,
            **values,
        )

    def ask(self, questions: list[Question]) -> list[Any | NoAnswer]:
        """What each question's `read` made of its answer, or why there is none."""
        self.templates |= {question.blank.template for question in questions}
        answers, cost = ask(questions, self.model, self.store)
        self.stats += cost
        found: list[Any | NoAnswer] = []
        for question in questions:
            answer = answers[question.blank.key]
            if answer.status == "answered":
                found.append(question.read(answer))
            else:
                found.append(NoAnswer(answer.problem, failed=answer.status == "failed"))
        return found


@lru_cache(maxsize=8)
def criteria_reply(k: int) -> type[BaseModel]:
    """The reply that holds one to `k` criteria; observations stand first, so that they can help."""
    return create_model(
        "WrittenCriteria",
        __config__=ConfigDict(strict=True, extra="forbid"),
        observations=(str, ...),
        criteria=(Annotated[list[_TEXT], Field(min_length=1, max_length=k)], ...),
    )


@lru_cache(maxsize=8)
def themes_reply(max_themes: int, max_tips: int) -> type[BaseModel]:
    """The reply that holds themes with their tips."""
    strict = ConfigDict(strict=True, extra="forbid")
    tips = Annotated[list[_TEXT], Field(min_length=1, max_length=max_tips)]
    theme = create_model("Theme", __config__=strict, theme=(_TEXT, ...), tips=(tips, ...))
    themes = Annotated[list[theme], Field(min_length=1, max_length=max_themes)]
    return create_model("Themes", __config__=strict, themes=(themes, ...))


def read_criteria(reply: BaseModel) -> list[str]:
    """
    The criteria of a reply, repeated ones left out.

    Raises:
        [`ReplyError`]: when one compares images, so that it could not be asked of a single one.
    """
    criteria = distinct(reply.criteria)
    refuse_comparisons(criteria)
    return criteria


def refuse_comparisons(criteria: list[str]) -> None:
    """
    Raises:
        [`ReplyError`]: when a criterion names one of two images.
    """
    for number, text in enumerate(criteria, start=1):
        if _COMPARES.search(text):
            raise ReplyError(
                f"Criterion {number} compares images ({text[:100]!r}); it has to be true or false of one image alone."
            )


def distinct(texts: list[str]) -> list[str]:
    """
    Texts without those that differ from an earlier one in nothing but case, spaces and the final period.

    Raises:
        [`ReplyError`]: when one has nothing but spaces, of which Python knows more than a JSON schema.
    """
    kept: dict[str, str] = {}
    for text in texts:
        text = " ".join(text.split())
        if not text:
            raise ReplyError("A criterion has no text.")
        kept.setdefault(text.casefold().rstrip(".。"), text)
    return list(kept.values())
