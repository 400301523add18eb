"""Asking a chat model: from the store where it was answered before, with one repair where the reply is no answer."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..chat import ChatModel, ChatReply, ChatRequest
from ..rubrics import Rubric
from .parsing import ReplyError
from .stats import JudgeStats
from .store import StoredAnswer, VerdictStore


_REPLY_FAULTS = ("truncated", "empty", "refusal")  # the model did reply, with something that is no answer
_QUOTED = 2_000  # characters of a bad reply that are shown to the model again
_KEPT = 100_000  # characters of a reply that the store keeps


def repair(request: ChatRequest, answer: StoredAnswer) -> ChatRequest | None:
    """
    The same question once more, with the reply that was no answer and what is wrong with it; a single token has no error
    to learn from.
    """
    if request.choices is not None:
        return None
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


@dataclass(frozen=True, eq=False)
class Question:
    """
    One question.

    Args:
        blank ([`StoredAnswer`]): what the answer will be filed as.
        request (`Callable`): makes the request; called only when the store has no answer.
        read (`Callable`): reads an answer; raises [`ReplyError`] when it is not what was asked for.
        once_more (`Callable`, *optional*): makes the second request of the first one and of its answer that is none; returns
            `None` where there is no second try. By default the model is shown what was wrong.
    """

    blank: StoredAnswer
    request: Callable[[], ChatRequest]
    read: Callable[[StoredAnswer], Any]
    once_more: Callable[[ChatRequest, StoredAnswer], ChatRequest | None] = repair


def ask(
    questions: list[Question],
    model: ChatModel,
    store: VerdictStore,
    rubrics: Collection[Rubric] = (),
    on_answered: Callable[[int], None] | None = None,
) -> tuple[dict[str, StoredAnswer], JudgeStats]:
    """
    Answer every question, from the store or from the model. `on_answered` is told of how many more there is an answer, in
    the thread that took it.

    Returns:
        `tuple(dict[str, StoredAnswer], JudgeStats)`: answers by key, and what was asked for them.
    """
    unique = {q.blank.key: q for q in questions}
    answers = store.get(unique.keys())
    to_ask = {key: q.blank for key, q in unique.items() if key not in answers}
    to_ask |= _unanswered(answers, unique, store)
    stats = JudgeStats(stored=len(unique) - len(to_ask))
    told = on_answered or (lambda count: None)
    told(len(questions) - len(to_ask))
    if not to_ask:
        return answers, stats
    store.put([], rubrics)
    waiting, befores = [unique[key] for key in to_ask], list(to_ask.values())
    for before, answer in zip(befores, _ask_model(waiting, befores, model, store, told), strict=True):
        answers[answer.key] = answer
        stats.calls += answer.asked - before.asked
        stats.prompt_tokens += answer.prompt_tokens - before.prompt_tokens
        stats.completion_tokens += answer.completion_tokens - before.completion_tokens
        stats.latencies_s.append(answer.latency_s - before.latency_s)
    return answers, stats


def content_key(*parts: Any) -> str:
    """Digest of plain values."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _unanswered(
    answers: Mapping[str, StoredAnswer], questions: Mapping[str, Question], store: VerdictStore
) -> dict[str, StoredAnswer]:
    """
    What asking goes on from, for those of the store's answers that do not stand. A run keeps to the reply it got; the
    next one asks again where that was no answer, since whoever answers may have been repaired.
    """
    found, old = {}, []
    for key, answer in answers.items():
        question = questions[key]
        if answer.status == "answered":
            try:
                question.read(answer)
            except ReplyError as error:  # kept by an arr_trl that read less strictly
                old.append(replace(answer, status="invalid", problem=str(error)))
        elif answer.asked == 1 and question.once_more(question.request(), answer) is not None:
            found[key] = answer  # ended between the reply and the second try: goes on with that
        elif answer.created_at < store.opened_at:
            old.append(answer)
    store.give_up(old)
    cost = ("asked", "prompt_tokens", "completion_tokens", "latency_s")
    for answer in old:
        spent = {name: getattr(answer, name) for name in cost}
        found[answer.key] = replace(questions[answer.key].blank, **spent)
    return found


def _ask_model(
    questions: list[Question],
    befores: list[StoredAnswer],
    model: ChatModel,
    store: VerdictStore,
    told: Callable[[int], None],
) -> list[StoredAnswer]:
    requests = [question.request() for question in questions]
    answers = list(befores)
    new = [i for i, answer in enumerate(answers) if answer.status != "invalid"]
    told(len(answers) - len(new))  # they have one, which may be asked for once more
    _add_replies(answers, new, questions, requests, model, store, told)
    bad = [i for i, answer in enumerate(answers) if answer.status == "invalid"]
    second = {i: questions[i].once_more(requests[i], answers[i]) for i in bad}
    second = {i: request for i, request in second.items() if request is not None}
    _add_replies(answers, list(second), questions, second, model, store)
    return answers


def _add_replies(
    answers: list[StoredAnswer],
    places: list[int],
    questions: list[Question],
    requests: Sequence[ChatRequest] | Mapping[int, ChatRequest],
    model: ChatModel,
    store: VerdictStore,
    told: Callable[[int], None] | None = None,
) -> None:
    """One more reply for the answers in `places`, each kept the moment it is there, and told of."""
    if not places:
        return
    missing = set(range(len(places)))

    def arrived(n: int, reply: ChatReply) -> None:
        i = places[n]
        answers[i] = _with_reply(answers[i], reply, questions[i].read)
        store.put([answers[i]])
        missing.discard(n)
        if told is not None:
            told(1)

    for n, reply in enumerate(model.complete([requests[i] for i in places], on_reply=arrived)):
        if n in missing:  # a chat model need not call back
            arrived(n, reply)


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
        created_at=0.0,  # now, and not when it was asked the first time
    )
    if reply.failure is not None:
        status = "invalid" if reply.failure.kind in _REPLY_FAULTS else "failed"
        return replace(answer, status=status, problem=reply.failure.message)
    try:
        read(answer)
    except ReplyError as error:
        return replace(answer, status="invalid", problem=str(error))
    return replace(answer, status="answered", problem=None)
