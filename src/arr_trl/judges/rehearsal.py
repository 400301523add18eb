"""
Questions before a run, in the shape of those to come: what it would founder on is met while nothing is lost. `check` asks for
a sign of life with as many pictures as there will be, one token long; a rehearsal asks one real question and reads the reply.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..chat import ChatModel, ChatReply, ChatRequest
from .parsing import ReplyError


_SHOWN = 600  # characters of a reply
_SIZE = (64, 64)  # the least that vision encoders take
USUAL_MASS = 0.5  # a model that follows the question answers with a choice more often than not


def tiny_pictures(count: int) -> list[Image.Image]:
    """Pictures that differ, and that cost next to nothing to send and to look at."""
    return [Image.new("RGB", _SIZE, (220, 60 * i % 256, 40)) for i in range(count)]


def flat_pictures(height: int, width: int) -> tuple[Image.Image, Image.Image]:
    """Two pictures of one color each, in the size of those that will be judged."""
    return tuple(Image.new("RGB", (width, height), color) for color in ((220, 40, 40), (40, 60, 220)))


@dataclass(frozen=True)
class Rehearsal:
    """
    What came of one real question before a run, of which no store and no count keeps anything.

    Args:
        model (`str`): who was asked.
        failure (`str`, *optional*): why there is no verdict; `None` where there is one.
        reply (`str`, *optional*): what it said last; `None` where nothing came.
        calls (`int`): requests, a second try and criteria for the prompt among them.
        tokens (`int`): tokens in and out.
        seconds (`float`): seconds until the answer.
    """

    model: str
    failure: str | None
    reply: str | None
    calls: int
    tokens: int
    seconds: float

    def __str__(self) -> str:
        shown = self.reply is not None and self.reply not in (self.failure or "")
        said = f" It said: {self.reply[:_SHOWN]!r}{' …' * (len(self.reply) > _SHOWN)}" if shown else ""
        cost = f"{self.calls} request{'s' * (self.calls != 1)}, {self.tokens} tokens, {self.seconds:.1f} s"
        if self.failure is None:
            return f"{self.model} answered ({cost}).{said}"
        return f"{self.model} gave no verdict ({cost}): {self.failure}{said}"


def check_reply(
    reply: ChatReply,
    request: ChatRequest,
    model: ChatModel,
    read: Callable[[ChatReply], Any],
    how: str = "mode='choice'",
) -> None:
    """
    Args:
        reply ([`ChatReply`]): what came of the question.
        request ([`ChatRequest`]): the question.
        model ([`ChatModel`]): who was asked.
        read (`Callable`): reads the log-probabilities of choices as a verdict reads them.
        how (`str`, *optional*, defaults to `"mode='choice'"`): what asks for choices.

    Raises:
        `ConnectionError`, `PermissionError` or `ValueError`: when such a question is not answered.
    """
    failure = reply.failure
    if failure is None and request.choices is not None:
        _check_choice(reply, request.choices, model, read, how)
    if failure is None or failure.kind in ("truncated", "empty", "refusal"):  # it answered
        return
    if request.choices is not None:
        raise ValueError(f"{how} cannot be used: {failure.message}")
    shown = sum(part["type"] == "image" for message in request.messages for part in message["content"])
    what = f"{failure.message} It was asked as the judge will ask, about {shown} pictures."
    if failure.kind == "authentication":
        raise PermissionError(what)
    if failure.kind in ("timeout", "connection", "rate_limit", "server"):
        raise ConnectionError(what)
    raise ValueError(what)


def _check_choice(reply: ChatReply, choices: tuple[str, ...], model: ChatModel, read: Callable, how: str) -> None:
    try:
        read(reply)
    except ReplyError as error:
        raise ValueError(f"{how} cannot be used: {error}") from None
    mass = sum(map(math.exp, reply.choice_logprobs.values()))
    if mass < USUAL_MASS:
        warnings.warn(
            f"With {how} the first token of {model.model} is one of {', '.join(choices)} with a probability of "
            f"{mass:.2g} only: it would rather say something else, and its verdicts rest on what is left. Turn thinking "
            "off where the model thinks, or ask another way: as `mode='ranks'` does."
        )
