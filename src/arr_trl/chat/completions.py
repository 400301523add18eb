"""What servers of the OpenAI protocol send back, read to replies; whatever else they send is told as what it is."""

import json
import math
import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from .base import ChatFailure, ChatReply, ChatRequest, ChatUsage
from .wire import beginning, well_formed


_KIND_OF_STATUS = {
    401: "authentication",
    403: "authentication",
    404: "not_found",
    408: "timeout",
    429: "rate_limit",
    501: "bad_request",  # not implemented: the same tomorrow
}
_TEXT = ("text", "output_text")
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_text")
# What a choice says that the server broke off: what stands in it until then may look whole.
_BROKEN_OFF = ("error", "abort", "insufficient_system_resource")
_TOKEN_MARKS = " \t\r\n▁Ġ"  # white space, and what stands for it in the vocabularies of SentencePiece and GPT-2
_DEPTH = 4  # how deep in an error its words are looked for


class NoCompletionError(Exception):
    """
    What a server sent is no chat completion.

    Args:
        kind (`str`): as of a [`ChatFailure`].
        said (`str`): what it did instead, to follow "The chat model at ...".
    """

    def __init__(self, kind: str, said: str):
        super().__init__(said)
        self.kind = kind
        self.said = said


def read_completion(body: bytes, request: ChatRequest) -> ChatReply:
    """
    The reply in the body of an answer with status 200.

    Raises:
        [`NoCompletionError`]: when there is none in it.
    """
    data = _object(body)
    _check_for_error(data)
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    cost = ChatUsage(_tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens")))
    choices = data.get("choices")
    if not choices:
        if words := server_words(data):
            raise NoCompletionError("server", f"sent no chat completion, but: {words}")
        failure = ChatFailure("server", "The server sent no chat completion; check `base_url`.")
        return ChatReply(failure=failure, usage=cost)
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise NoCompletionError("server", "sent a completion whose `choices` are no list of objects")
    choice = choices[0]
    _check_for_error(choice)
    if (finish := choice.get("finish_reason")) in _BROKEN_OFF:
        raise NoCompletionError("server", f"broke off its reply with the reason {finish!r}")
    if request.choices is not None:
        return _choice_reply(choice.get("logprobs"), request.choices, cost)
    return _text_reply(choice, request.max_tokens, cost)


def kind_of_status(status: int) -> str:
    """The kind of failure that an HTTP status stands for."""
    return _KIND_OF_STATUS.get(status, "bad_request" if 400 <= status < 500 else "server")


def server_words(body: Any, depth: int = _DEPTH) -> str:
    """The server's own message, in whichever of the usual shapes it stands."""
    if depth == 0 or body is None:
        return ""
    if isinstance(body, list):
        return "; ".join(filter(None, (server_words(part, depth - 1) for part in body)))
    if not isinstance(body, dict):
        return str(body)
    for name in ("error", "detail", "message", "msg", "errors", "base_resp", "status_msg"):  # the last two: MiniMax
        if words := server_words(body.get(name), depth - 1):
            place = body.get("loc")  # FastAPI's list of what is wrong with a request
            return f"{'.'.join(map(str, place))}: {words}" if isinstance(place, list) else words
    return "" if depth == _DEPTH else json.dumps(body)


def words_of_response(response: Any) -> str:
    """The server's own message in a response of `huggingface_hub`; none where it is a web page."""
    try:
        return server_words(response.json())
    except (ValueError, RecursionError):
        return "" if "html" in response.headers.get("content-type", "") else response.text


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


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        page = "a web page" if text.startswith("<") else "no JSON"
        raise NoCompletionError(
            "server", f"sent a reply that is no chat completion but {page}; it begins: {beginning(text)}"
        ) from None
    if not isinstance(data, dict):
        raise NoCompletionError("server", f"sent a reply that is no chat completion but {json.dumps(data)[:80]}")
    return data


def _check_for_error(data: dict[str, Any]) -> None:
    """Servers report what went wrong while they answer with status 200."""
    is_error = data.get("object") == "error"
    error = data if is_error else data.get("error")
    if not error:
        return
    codes = [part.get("code") for part in (error, data) if isinstance(part, dict)]
    code = next((c for c in codes if type(c) is int and 400 <= c < 600), 500)
    raise NoCompletionError(kind_of_status(code), f"sent an error: {server_words(error) or json.dumps(error)}")


def _text_reply(choice: dict[str, Any], max_tokens: int, usage: ChatUsage) -> ChatReply:
    message, finish = choice.get("message"), choice.get("finish_reason")
    if message is None and finish not in ("content_filter", "length"):
        said = f"The server sent a completion without a `message`, but with {', '.join(choice) or 'nothing'}; check "
        failure = ChatFailure("server", f"{said}`base_url`, which has to answer chat completions in one piece.")
        return ChatReply(failure=failure, usage=usage)
    message = {} if message is None else message
    if not isinstance(message, dict):
        raise NoCompletionError("server", "sent a completion whose `message` is no object")
    content = message.get("content")
    text = _text(content)
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    failure = None
    if finish == "content_filter" or message.get("refusal") or _has_part(content, "refusal"):
        failure = ChatFailure("refusal", "The model refused to answer.")
    elif finish == "length":
        when = "" if text.strip() or not thoughts else ", while the model was still thinking"
        failure = ChatFailure("truncated", f"The reply was cut at {max_tokens} tokens{when}.")
    elif not text.strip() and (message.get("tool_calls") or message.get("function_call")):
        failure = ChatFailure("empty", "The reply has no text, only the call of a tool.")
    elif not text.strip() and isinstance(thoughts, str):
        # a server that takes everything before the end of thoughts for thoughts, of a model that had none
        text = thoughts
    if failure is None and not text.strip():
        failure = ChatFailure("empty", "The reply is empty.")
    return ChatReply(text=well_formed(text), failure=failure, usage=usage)


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise NoCompletionError("server", f"sent a completion whose content is no text but {json.dumps(content)[:80]}")
    text = ""
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _TEXT and isinstance(part.get("text"), str):
            text += part["text"]
        elif kind not in (*_THOUGHTS, "refusal"):
            raise NoCompletionError(
                "server", f"sent a completion with a part that is no text: {json.dumps(part)[:80]}"
            )
    return text


def _has_part(content: Any, kind: str) -> bool:
    return isinstance(content, list) and any(part["type"] == kind for part in content)


def _tokens(count: Any) -> int:
    """A number of tokens; 0 for what is none."""
    return count if isinstance(count, int) and 0 <= count < 2**53 else 0


def _choice_reply(logprobs: Any, choices: tuple[str, ...], usage: ChatUsage) -> ChatReply:
    found = _first_tokens(logprobs)
    if not found:
        said = (
            "no log-probabilities"
            if found is None
            else "the log-probability of the first token and of none beside it (`top_logprobs` is empty)"
        )
        failure = ChatFailure("bad_request", f"The server sent {said}; use a judge mode without them.")
        return ChatReply(failure=failure, usage=usage)
    mass: dict[str, float] = {}
    for token, logprob in found:
        token = token.strip(_TOKEN_MARKS)
        if token in choices:
            if not isinstance(logprob, int | float) or not logprob < 0.01:  # NaN; rounding may leave a little above 0
                raise NoCompletionError("server", f"sent {json.dumps(logprob)[:80]} as a log-probability")
            mass[token] = mass.get(token, 0.0) + math.exp(logprob)
    return ChatReply(choice_logprobs={token: math.log(p) for token, p in mass.items() if p > 0}, usage=usage)


def _first_tokens(logprobs: Any) -> list[tuple[str, Any]] | None:
    """
    What the first token could have been, with log-probabilities; `None` where there are none.

    Raises:
        [`NoCompletionError`]: when they have no shape that servers give them.
    """
    try:
        if not logprobs:
            return None
        if content := logprobs.get("content"):
            first = content[0]
            listed = [(entry["token"], entry["logprob"]) for entry in first.get("top_logprobs") or []]
            drawn = first.get("token")
            if listed and drawn is not None and drawn not in [token for token, _ in listed]:
                listed.append((drawn, first["logprob"]))  # some list the others only
        elif "content" not in logprobs and logprobs.get("top_logprobs"):  # the shape before chat completions
            listed = list(logprobs["top_logprobs"][0].items())
        else:
            return None
    except (LookupError, TypeError, AttributeError) as error:
        raise NoCompletionError("server", f"sent log-probabilities in no known shape ({error!r})") from None
    if not all(isinstance(token, str) for token, _ in listed):
        raise NoCompletionError("server", "sent log-probabilities of what is no text")
    return listed
