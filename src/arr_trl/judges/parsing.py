"""Replies read strictly: a reply that is not what was asked for is an error with a sentence, never a guess."""

import re
from functools import lru_cache
from typing import TypeVar

from pydantic import BaseModel, ValidationError


_MAX_CHARACTERS = 100_000  # a longer reply is a model that ran away
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)  # of models whose server does not take them out
_Reply = TypeVar("_Reply", bound=BaseModel)


class ReplyError(ValueError):
    """A reply that cannot be used; the message says why, in words the model can act on."""


def parse_reply(text: str | None, model: type[_Reply]) -> _Reply:
    """
    Read a reply that has to be one JSON object, alone or in one fenced block, after thoughts if the model has any.

    Raises:
        [`ReplyError`]: when it is anything else.
    """
    text = text or ""
    if len(text) > _MAX_CHARACTERS:
        raise ReplyError(f"The reply has {len(text)} characters; the answer is one short JSON object.")
    if thoughts := _THOUGHTS.match(text):
        text = text[thoughts.end() :]
    fenced = _FENCED.fullmatch(text)
    try:
        return model.model_validate_json(fenced.group(1) if fenced else text)
    except ValidationError as error:
        found = "; ".join(
            f"`{'.'.join(map(str, e['loc']))}`: {e['msg']}" if e["loc"] else e["msg"] for e in error.errors()[:5]
        )
        raise ReplyError(f"The reply is not the JSON object that was asked for: {found}.") from None


@lru_cache(maxsize=64)
def json_schema(model: type[BaseModel]) -> dict:
    """The JSON schema a server is given for a reply model."""
    return model.model_json_schema()
