"""Replies read strictly: a reply that is not what was asked for is an error with a sentence, never a guess."""

import json
import re
from functools import lru_cache
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..chat.wire import beginning
from ..text_files import read_json


_MAX_CHARACTERS = 100_000  # a longer reply is a model that ran away
_BLANKS = " \t\r\n\ufeff\u200b"  # byte order marks among them
_TOKEN = re.compile(r"<\|\w+\|>|</s>")  # what a server leaves of a template: <|begin_of_box|>, <|im_end|>
_LAST_TOKEN = re.compile(rf"(?:{_TOKEN.pattern})\Z")
_LONGEST_TOKEN = 40
_WRAPPERS = (("```", "```"), ("~~~", "~~~"), ("<answer>", "</answer>"))
# The end of thoughts that the server did not take out. What opens them is often in the prompt, and not in the reply.
_END_OF_THOUGHTS = re.compile(
    r"</(?:seed:)?(?:think|thinking|thoughts?|reasoning)>|◁/think▷|\[/THINK\]", re.IGNORECASE
)
_Reply = TypeVar("_Reply", bound=BaseModel)


class ReplyError(ValueError):
    """A reply that cannot be used; the message says why, in words the model can act on."""


def parse_reply(text: str | None, model: type[_Reply]) -> _Reply:
    """
    Read a reply that has to be one JSON object, alone or wrapped, after thoughts if the model has any.

    Raises:
        [`ReplyError`]: when it is anything else.
    """
    text = checked_length(text)
    answer = _answer(text)
    try:
        reply = model.model_validate_json(answer)
    except ValidationError as error:
        found = "; ".join(
            f"`{'.'.join(map(str, e['loc']))}`: {e['msg']}" if e["loc"] else e["msg"] for e in error.errors()[:5]
        )
        raise _no_answer(found, answer or text) from None
    try:
        read_json(answer)
    except ValueError as error:
        raise _no_answer(str(error), answer) from None
    return reply


def checked_length(text: str | None) -> str:
    """
    A reply as text.

    Raises:
        [`ReplyError`]: when its model ran away.
    """
    text = text or ""
    if len(text) > _MAX_CHARACTERS:
        raise ReplyError(f"The reply has {len(text)} characters; the answer is a short one.")
    return text


def without_thoughts(text: str) -> str:
    """What stands behind the thoughts of a model, all of it where there are none."""
    ends = list(_END_OF_THOUGHTS.finditer(text))
    return text[ends[-1].end() :] if ends else text


def _answer(text: str) -> str:
    """What is left without what servers and models wrap answers in, and without thoughts."""
    unwrapped = _unwrapped(text)
    # a string inside the answer may name the tag, too
    return unwrapped if _is_json(unwrapped) else _unwrapped(without_thoughts(text))


def _unwrapped(text: str) -> str:
    while True:
        inner = text.strip(_BLANKS)
        if first := _TOKEN.match(inner):
            inner = inner[first.end() :]
        if last := _LAST_TOKEN.search(inner[-_LONGEST_TOKEN:]):
            inner = inner[: len(inner) - len(last[0])]
        for opening, closing in _WRAPPERS:
            if len(inner) >= len(opening + closing) and inner.startswith(opening) and inner.endswith(closing):
                inner = inner[len(opening) : -len(closing)]
                if opening in ("```", "~~~") and inner[:4].lower() == "json":
                    inner = inner[4:]
        if inner == text:
            return text
        text = inner


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _no_answer(found: str, text: str) -> ReplyError:
    begins = f" It begins: {beginning(text)}" if text.strip() else ""
    return ReplyError(f"The reply is not the JSON object that was asked for: {found}.{begins}")


@lru_cache(maxsize=64)
def json_schema(model: type[BaseModel]) -> dict:
    """The JSON schema a server is given for a reply model."""
    return model.model_json_schema()
