"""Asking a chat model: from the store where it was answered before, with one repair where the reply is no answer."""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from ..chat import ChatModel, ChatReply, ChatRequest
from ..rubrics import Rubric
from .parsing import ReplyError
from .reward import JudgeStats
from .store import StoredAnswer, VerdictStore


_REPLY_FAULTS = ("truncated", "empty", "refusal")  # the model did reply, with something that is no answer
_QUOTED = 2_000  # characters of a bad reply that are shown to the model again
_KEPT = 100_000  # characters of a reply that the store keeps


@dataclass(frozen=True, eq=False)
class Question:
    """
    One question.

    Args:
        blank ([`StoredAnswer`]): what the answer will be filed as.
        request (`Callable`): makes the request; called only when the store has no answer.
        read (`Callable`): reads an answer; raises [`ReplyError`] when it is not what was asked for.
    """

    blank: StoredAnswer
    request: Callable[[], ChatRequest]
    read: Callable[[StoredAnswer], Any]


def ask(
    questions: list[Question], model: ChatModel, store: VerdictStore, rubrics: Collection[Rubric] = ()
) -> tuple[dict[str, StoredAnswer], JudgeStats]:
    """
    Answer every question, from the store or from the model.

    Returns:
        `tuple(dict[str, StoredAnswer], JudgeStats)`: answers by key, and what was asked for them.
    """
    answers = store.get({q.blank.key for q in questions})
    stats = JudgeStats(stored=len(answers))
    waiting = list({q.blank.key: q for q in questions if q.blank.key not in answers}.values())
    if not waiting:
        return answers, stats
    store.put([], rubrics)
    for answer in _ask_model(waiting, model, store):
        answers[answer.key] = answer
        stats.calls += answer.asked
        stats.prompt_tokens += answer.prompt_tokens
        stats.completion_tokens += answer.completion_tokens
        stats.latencies_s.append(answer.latency_s)
    return answers, stats


def content_key(*parts: Any) -> str:
    """Digest of plain values."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def image_digest(image: Image.Image) -> str:
    """Digest of an image's pixels."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()


def _ask_model(questions: list[Question], model: ChatModel, store: VerdictStore) -> list[StoredAnswer]:
    requests = [question.request() for question in questions]
    # a reply that is no answer gets one more try; a single token has no error to learn from
    repairable = [request.choices is None for request in requests]
    answers = _replies(questions, requests, [q.blank for q in questions], repairable, model, store)
    bad = [i for i, answer in enumerate(answers) if answer.status == "invalid" and repairable[i]]
    if bad:
        repairs = [_repair(requests[i], answers[i]) for i in bad]
        again = [questions[i] for i in bad]
        repaired = _replies(again, repairs, [answers[i] for i in bad], [False] * len(bad), model, store)
        for i, answer in zip(bad, repaired, strict=True):
            answers[i] = answer
    return answers


def _replies(
    questions: list[Question],
    requests: list[ChatRequest],
    before: list[StoredAnswer],
    repairable: list[bool],
    model: ChatModel,
    store: VerdictStore,
) -> list[StoredAnswer]:
    """`before` with one more reply each; those that will not be asked again are kept the moment they are there."""
    answers: list[StoredAnswer | None] = [None] * len(questions)

    def arrived(i: int, reply: ChatReply) -> None:
        answers[i] = _with_reply(before[i], reply, questions[i].read)
        if answers[i].status != "invalid" or not repairable[i]:
            store.put([answers[i]])

    for i, reply in enumerate(model.complete(requests, on_reply=arrived)):
        if answers[i] is None:  # a chat model need not call back
            arrived(i, reply)
    return answers


def _with_reply(answer: StoredAnswer, reply: ChatReply, read: Callable[[StoredAnswer], Any]) -> StoredAnswer:
    """`answer` with one more reply: answered, invalid when the reply is no answer, failed when none came."""
    answer = replace(
        answer,
        reply=answer.reply if reply.text is None else reply.text[: _KEPT + 1],
        choice_logprobs=reply.choice_logprobs,
        asked=answer.asked + 1,
        prompt_tokens=answer.prompt_tokens + reply.usage.prompt_tokens,
        completion_tokens=answer.completion_tokens + reply.usage.completion_tokens,
        latency_s=answer.latency_s + reply.latency_s,
    )
    if reply.failure is not None:
        status = "invalid" if reply.failure.kind in _REPLY_FAULTS else "failed"
        return replace(answer, status=status, problem=reply.failure.message)
    try:
        read(answer)
    except ReplyError as error:
        return replace(answer, status="invalid", problem=str(error))
    return replace(answer, status="answered", problem=None)


def _repair(request: ChatRequest, answer: StoredAnswer) -> ChatRequest:
    """The same question once more, with the reply that was no answer and what is wrong with it."""
    said = (answer.reply or "")[:_QUOTED] or "(nothing)"
    asked_again = f"{answer.problem} Answer the question again, with the JSON object and nothing else."
    return replace(
        request,
        messages=[
            *request.messages,
            {"role": "assistant", "content": [{"type": "text", "text": said}]},
            {"role": "user", "content": [{"type": "text", "text": asked_again}]},
        ],
    )
