"""OpenAI's wire format: images and URLs on the way out, what servers send on the way in."""

import base64
import io
import math
import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from PIL import Image

from .base import ChatFailure, ChatReply, ChatRequest, ChatUsage


def read_output(output: Any, request: ChatRequest) -> ChatReply:
    """The reply in what the server sent; fields that servers leave out are `None`."""
    usage = ChatUsage()
    if output.usage:
        usage = ChatUsage(_tokens(output.usage.prompt_tokens), _tokens(output.usage.completion_tokens))
    if not output.choices:
        return ChatReply(
            failure=ChatFailure("server", "The server sent no chat completion; check `base_url`."), usage=usage
        )
    choice = output.choices[0]
    message = choice.message or {}
    if request.choices is not None:
        logprobs = _choice_logprobs(choice.logprobs, request.choices)
        if logprobs is None:
            failure = ChatFailure(
                "bad_request", "The server sent no log-probabilities; use a judge mode without them."
            )
            return ChatReply(failure=failure, usage=usage)
        return ChatReply(choice_logprobs=logprobs, usage=usage)
    text = well_formed(message.get("content") or "")
    failure = None
    if choice.finish_reason == "content_filter" or message.get("refusal"):
        failure = ChatFailure("refusal", "The model refused to answer.")
    elif choice.finish_reason == "length":
        failure = ChatFailure("truncated", f"The reply was cut at {request.max_tokens} tokens.")
    elif not text.strip():
        failure = ChatFailure("empty", "The reply is empty.")
    return ChatReply(text=text, failure=failure, usage=usage)


def well_formed(text: str) -> str:
    """Text without halves of characters, which a cut reply may hold and which no file or server takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _tokens(count: Any) -> int:
    """A number of tokens; 0 for what is none."""
    return count if isinstance(count, int) and 0 <= count < 2**53 else 0


def _choice_logprobs(logprobs: Any, choices: tuple[str, ...]) -> dict[str, float] | None:
    """
    Log-probability of each choice as first token; spellings that differ in white space are added up.

    Raises:
        `ValueError`: when a number is no log-probability.
    """
    if not logprobs or not logprobs.content:
        return None
    mass: dict[str, float] = {}
    for entry in logprobs.content[0].top_logprobs or []:
        token = entry.token.strip()
        if token in choices:
            if not entry.logprob < 0.01:  # NaN, infinity; rounding may leave a little above 0
                raise ValueError(f"{entry.logprob} is no log-probability")
            mass[token] = mass.get(token, 0.0) + math.exp(entry.logprob)
    return {token: math.log(p) for token, p in mass.items() if p > 0}


def data_url(image: Image.Image, max_size: int) -> str:
    image = image.convert("RGB")
    if max(image.size) > max_size:
        image.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)  # level 6 takes four times as long for 10% of the bytes
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def server_words(response: Any) -> str:
    try:
        body = response.json()
    except ValueError:
        return "" if "html" in response.headers.get("content-type", "") else response.text
    error = body.get("error", body.get("detail", "")) if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)


def retry_after_s(value: str | None) -> float | None:
    """Seconds in a `Retry-After` header, which holds seconds or a date."""
    if value is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return None


def check_address(url: str, setting: str) -> None:
    """
    Args:
        url (`str`): address of a server.
        setting (`str`): what the user gave it as, for the error.

    Raises:
        `ValueError`: when it is none, or has a user or password in it, which would be sent as Basic authentication.
    """
    shown = f"{setting}={without_secrets(url)!r}"
    if not url.startswith(("http://", "https://")):
        raise ValueError(
            f"{shown} is not an address; it has to start with http:// or https://, for example "
            "http://localhost:8000/v1."
        )
    if "@" in urlsplit(url).netloc:
        raise ValueError(
            f"{shown} was given with a user or a password before the @; leave them out and give the secret as "
            "`api_key`, on the command line in the environment variable that `api_key_env` names."
        )


def secrets_in_url(url: str) -> list[str]:
    return [value for _, value in parse_qsl(urlsplit(url).query)]


def without_secrets(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"//{url}")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")).removeprefix("//")
