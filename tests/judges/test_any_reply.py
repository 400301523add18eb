"""Whatever a model or a server sends is a verdict, a tie or a failure, and never an exception."""

import copy
import json
import math

from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_rubric_judge import RUBRIC, gray

from arr_trl.chat import ChatFailure, ChatReply, ChatRequest
from arr_trl.chat.completions import NoCompletionError, read_completion
from arr_trl.judges import JudgeRow, RubricJudge


ROW = [JudgeRow("a", (gray(1), gray(2)))]
ANSWERS = [
    {"criteria": [{"criterion": 1, "ranks": [1, 2]}], "reason": "light", "ranks": [1, 2]},
    {"criteria": [{"criterion": 1, "ranks": [1, 1]}], "reason": "light", "ranks": [1, 1]},
    {"criteria": [{"criterion": 1, "score": 3}], "reason": "light", "score": 3},
    {"criteria": [{"text": "It is bright.", "essential": False}]},
]
PIECES = [
    "<think>", "</think>", "<thinking>", "</thinking>", "◁/think▷", "```", "```json", "```JSON\r\n", "~~~", "\n", " ", "\ufeff",
    "<|begin_of_box|>", "<|end_of_box|>", "<answer>", "</answer>", "</s>", "{", "}", "[", "]", '"', ",", "ranks", "1", "NaN",
    '"ranks": [2, 1]', "\x00", "\ud83d", "[" * 2000, "9" * 5000, "Sure!", *map(json.dumps, ANSWERS),
]  # fmt: skip
quick = settings(max_examples=250, derandomize=True, deadline=None, database=None)

replies = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=8).map("".join)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


class Says:
    """A chat model with one reply for every request."""

    model = "says"
    settings = {}

    def __init__(self, reply):
        self.reply = reply

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        return [self.reply] * len(requests)


def verdict_of(reply, **settings):
    judge = RubricJudge(**{"rubric": RUBRIC, "model": Says(reply), **settings})
    (verdict,) = judge.compare(ROW)
    assert sum([verdict.winner is not None, verdict.tie, verdict.failure is not None]) == 1
    assert (verdict.ranks is None) == (verdict.failure is not None)
    judge.store.close()
    return verdict


def is_one_answer(text):
    """Whether something that stands behind all thoughts is one of the answers, and all else are wrappers."""
    for answer in map(json.dumps, ANSWERS):
        _, found, after = text.rpartition(answer)
        if found and not any(letter in after for letter in '{}[]",'):
            return True
    return False


@quick
@given(replies, st.sampled_from(["ranks", "criteria"]))
def test_any_text_is_a_verdict_a_tie_or_a_failure(text, decide):
    verdict = verdict_of(ChatReply(text=text), order="fixed", decide=decide)
    if verdict.failure is None:
        assert is_one_answer(text)
    else:
        assert len(verdict.failure) < 1000
    verdict_of(ChatReply(text=text), mode="pointwise", decide=decide)


@quick
@given(replies, st.text(max_size=12))
@example("", "\x1c")  # white space to Python alone
def test_any_text_is_criteria_or_a_failure(text, criterion):
    verdict_of(ChatReply(text=text), rubric="auto")
    written = json.dumps({"criteria": [{"text": criterion, "essential": False}]})
    verdict_of(ChatReply(text=written), rubric="auto")


def changed(tree, where, value):
    """A copy of `tree` with `value` in one of its places."""
    places = []

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    tree = copy.deepcopy(tree)
    walk(tree)
    node, key = places[where % len(places)]
    node[key] = value
    return tree


COMPLETION = {
    "object": "chat.completion",
    "error": None,
    "choices": [
        {
            "message": {
                "content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": json.dumps(ANSWERS[0])}],
                "reasoning_content": None,
                "tool_calls": [{"function": {"arguments": "x"}}],
                "refusal": None,
            },
            "finish_reason": "stop",
            "logprobs": {
                "content": [{"token": "1", "logprob": -0.1, "top_logprobs": [{"token": "2", "logprob": -3}]}]
            },
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}
completions = st.builds(
    lambda changes: json.dumps(_all_changed(changes)).encode(),
    st.lists(st.tuples(st.integers(0, 99), values), max_size=3),
)


def _all_changed(changes):
    tree = COMPLETION
    for where, value in changes:
        tree = changed(tree, where, value)
    return tree


@quick
@given(completions | st.binary(max_size=40) | values.map(json.dumps).map(str.encode))
def test_any_body_of_a_server_is_a_reply_or_told_as_none(body):
    for mode, choices in (("ranks", None), ("choice", ("1", "2"))):
        request = ChatRequest([], choices=choices)
        try:
            reply = read_completion(body, request)
        except NoCompletionError as error:
            reply = ChatReply(failure=ChatFailure(error.kind, error.said))
        verdict_of(reply, mode=mode)


@quick
@given(st.dictionaries(st.sampled_from(["1", "2"]), st.floats(max_value=0.01, allow_nan=False)))
def test_any_log_probabilities_are_a_verdict_a_tie_or_a_failure(logprobs):
    verdict = verdict_of(ChatReply(choice_logprobs=logprobs), mode="choice")
    assert (verdict.failure is None) == (sum(map(math.exp, logprobs.values())) >= 0.01)
