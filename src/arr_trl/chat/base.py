"""
What travels between a judge and the model that sits behind it. A chat model takes requests and gives one reply for
each, in order; a request that could not be answered comes back as a reply with a failure, never as an exception.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class ChatRequest:
    """
    One question to a vision chat model.

    Args:
        messages (`list[dict]`):
            Messages in the chat format of transformers: `{"role": ..., "content": [{"type": "text", "text": ...},
            {"type": "image", "image": PIL.Image.Image}]}`.
        json_schema (`dict`, *optional*):
            JSON schema that the reply's text has to follow, with a `title`.
        choices (`tuple[str, ...]`, *optional*):
            Answers of one token whose log-probabilities are wanted as the first token of the reply.
        max_tokens (`int`, *optional*, defaults to `1024`):
            Longest reply, in tokens.
        temperature (`float`, *optional*, defaults to `0.0`):
            Sampling temperature.
        sampling (`dict[str, float]`, *optional*):
            Further fields of the request where the temperature is above 0: `top_p`, `top_k`, `seed`.
    """

    messages: list[dict[str, Any]]
    json_schema: dict[str, Any] | None = None
    choices: tuple[str, ...] | None = None
    max_tokens: int = 1024
    temperature: float = 0.0
    sampling: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ChatFailure:
    """
    Why a request has no answer.

    Args:
        kind (`str`):
            `"timeout"`, `"connection"`, `"rate_limit"`, `"server"`, `"authentication"`, `"not_found"`,
            `"bad_request"`, `"refusal"`, `"truncated"` or `"empty"`.
        message (`str`):
            One sentence, free of secrets.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class ChatUsage:
    """Tokens that one reply cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class ChatReply:
    """
    The answer to one [`ChatRequest`]: `text`, or `choice_logprobs` when the request had `choices`, or a `failure`.

    Args:
        text (`str`, *optional*):
            The reply's text.
        choice_logprobs (`dict[str, float]`, *optional*):
            Log-probability of each choice; a choice the model did not report is missing.
        failure (`ChatFailure`, *optional*):
            Why there is no answer.
        usage (`ChatUsage`, *optional*):
            Tokens in and out.
        latency_s (`float`, *optional*, defaults to `0.0`):
            Seconds from sending to the last byte, retries included.
    """

    text: str | None = None
    choice_logprobs: dict[str, float] | None = None
    failure: ChatFailure | None = None
    usage: ChatUsage = field(default_factory=ChatUsage)
    latency_s: float = 0.0


class ChatModel(Protocol):
    """
    A vision chat model: an HTTP server, a local VLM, or the reader of TinyScenes.

    `model` is its name. `settings` holds whatever else, beside the request, can change an answer, as plain values:
    answers are kept under both. Where there is a `"server"` among them, it is recorded with each answer.
    """

    model: str
    settings: dict[str, Any]

    def complete(
        self, requests: list[ChatRequest], on_reply: Callable[[int, ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """
        Answer every request, in order; batched or concurrent inside. `on_reply` is called with index and reply as soon
        as each is there, one at a time but from any thread, so that nothing is lost when the rest never comes.
        """
        ...

    def check(self) -> None:
        """
        Find out, before training, whether the model can be reached and asked.

        Raises:
            `ConnectionError`: when the server does not answer.
            `PermissionError`: when it refuses the credentials.
            `ValueError`: when it does not serve the model.
        """
        ...
