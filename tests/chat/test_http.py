import asyncio
import base64
import errno
import io
import json
import logging
import math
import re
import threading
import time

import numpy as np
import pytest
from openai_server import Answer, OpenAIServer
from PIL import Image

from arr_trl.chat import ChatRequest, HTTPChatModel


SCHEMA = {"title": "Reply", "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def ask(text="Hello", image=None, **settings):
    content = [{"type": "text", "text": text}]
    if image is not None:
        content.append({"type": "image", "image": image})
    return ChatRequest([{"role": "user", "content": content}], **settings)


def model_at(server, **settings):
    return HTTPChatModel("judge", server.url, **{"backoff_s": 0.01, **settings})


def test_replies_come_back_in_the_order_of_the_requests():
    def respond(number, body):
        text = body["messages"][0]["content"][0]["text"]
        time.sleep(0.05 if text == "0" else 0.0)
        return Answer(text)

    with OpenAIServer(respond=respond) as server:
        replies = model_at(server).complete([ask(str(i)) for i in range(20)])
    assert [reply.text for reply in replies] == [str(i) for i in range(20)]
    assert replies[0].usage.prompt_tokens == 7
    assert replies[0].usage.completion_tokens == 3
    assert replies[0].latency_s >= 0.05


def test_images_are_sent_as_png_no_larger_than_asked():
    image = Image.new("RGB", (64, 32), (250, 10, 20))
    with OpenAIServer(respond=lambda n, b: Answer("ok")) as server:
        model_at(server, max_image_size=16).complete([ask(image=image)])
    url = server.requests[0]["messages"][0]["content"][1]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    sent = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert sent.size == (16, 8)
    assert sent.getpixel((3, 3)) == (250, 10, 20)


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (Image.fromarray(np.full((8, 8), 30000, np.uint16)), (116, 116, 116)),
        (Image.new("RGBA", (8, 8), (220, 10, 10, 0)), (255, 255, 255)),
        (Image.new("LA", (8, 8), (40, 0)), (255, 255, 255)),
    ],
    ids=["16 bits of grey", "transparent red", "transparent grey"],
)
def test_a_picture_is_sent_as_bright_as_it_is(image, seen):
    with OpenAIServer(respond=lambda n, b: Answer("ok")) as server:
        model_at(server).complete([ask(image=image)])
    url = server.requests[0]["messages"][0]["content"][1]["image_url"]["url"]
    assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).getpixel((3, 3)) == seen


def test_a_picture_whose_white_is_not_known_is_not_sent_as_black():
    with OpenAIServer(respond=lambda n, b: Answer("ok")) as server:
        (reply,) = model_at(server).complete([ask(image=Image.fromarray(np.full((8, 8), 0.5, np.float32)))])
    assert not server.requests
    assert "holds fractions, and nothing says which of them is white" in reply.failure.message


def test_no_more_than_max_concurrency_requests_are_in_flight_over_all_threads():
    together = threading.Barrier(3)  # nobody is answered before three have asked

    def respond(number, body):
        together.wait(timeout=120)
        return Answer("ok")

    with OpenAIServer(respond=respond, latency_s=0.02) as server:
        model = model_at(server, max_concurrency=3)
        threads = [threading.Thread(target=model.complete, args=([ask()] * 6,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 18
    assert server.most_in_flight == 3


def test_complete_works_in_a_thread_that_runs_an_event_loop():
    async def main(model):
        return model.complete([ask()])

    with OpenAIServer(respond=lambda n, b: Answer("ok")) as server:
        (reply,) = asyncio.run(main(model_at(server)))
    assert reply.text == "ok"


@pytest.mark.parametrize(
    "fault",
    [
        Answer(status=500, body=b"oops"),
        Answer(status=503, body=b'{"error": "loading"}'),
        Answer(status=429, body=b"[]", headers={"retry-after": "0"}),
        Answer(reset=True),
        Answer(body=b"this is not json"),
        Answer(body=b"[1, 2]"),
    ],
    ids=["500", "503", "429", "reset", "no JSON", "no object"],
)
def test_a_passing_fault_is_tried_again(fault):
    with OpenAIServer(respond=lambda number, body: fault if number < 2 else Answer("ok")) as server:
        (reply,) = model_at(server).complete([ask()])
    assert reply.text == "ok"
    assert len(server.requests) == 3


def test_retry_after_is_waited_for():
    slow_down = Answer(status=429, body=b"{}", headers={"Retry-After": "0.3"})
    with OpenAIServer(respond=lambda number, body: slow_down if number == 0 else Answer("ok")) as server:
        start = time.perf_counter()
        (reply,) = model_at(server).complete([ask()])
    assert reply.text == "ok"
    assert 0.3 <= time.perf_counter() - start < 60  # which a busy machine keeps to, too


def test_a_server_that_asks_for_an_hour_is_not_waited_for():
    with OpenAIServer(respond=lambda n, b: Answer(status=429, body=b"{}", headers={"Retry-After": "3600"})) as server:
        (reply,) = model_at(server).complete([ask()])
    assert reply.failure.kind == "rate_limit"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "tries"),
    [
        (Answer(hang_s=60), "timeout", 2),
        (Answer(reset=True), "connection", 2),
        (Answer(status=500, body=b""), "server", 2),
        (Answer(status=429, body=b""), "rate_limit", 2),
        (Answer(status=401, body=b'{"error": {"message": "bad key"}}'), "authentication", 1),
        (Answer(status=403, body=b""), "authentication", 1),
        (Answer(status=404, body=b'{"error": {"message": "no such model"}}'), "not_found", 1),
        (Answer(status=400, body=b'{"error": {"message": "too long"}}'), "bad_request", 1),
        (Answer(text=""), "empty", 1),
        (Answer(text=None), "empty", 1),
        (Answer(body=b'{"choices": []}'), "server", 1),
        (Answer(text='{"a"', finish_reason="length"), "truncated", 1),
        (Answer(text="", finish_reason="content_filter"), "refusal", 1),
    ],
)
def test_a_lasting_fault_becomes_a_typed_failure(answer, kind, tries):
    with OpenAIServer(respond=lambda number, body: answer) as server:
        patience = {"timeout_s": 1.0} if answer.hang_s else {}
        (reply,) = model_at(server, max_retries=1, **patience).complete([ask()])
    assert reply.failure.kind == kind
    assert len(server.requests) == tries


@pytest.mark.parametrize("choices", [None, ("1", "2")])
@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"{}",
        b'{"choices": "x"}',
        b'{"choices": {"a": 1}}',
        b'{"choices": [1]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": "hi"}]}',
        b'{"choices": [{"message": {"content": [{"text": "x"}]}}], "usage": {"prompt_tokens": null}}',
        b'{"choices": [{"message": {"content": 5}, "logprobs": {"content": [{"top_logprobs": [{"token": 1}]}]}}]}',
        b'{"choices": [{"logprobs": {"content": 3}}], "usage": 7}',
        b'{"choices": ' + b"[" * 200_000,
        b'{"choices": [{"message": {"content": NaN}}]}',
        *(
            b'{"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "1", "logprob": %s}]}]}}]}' % number
            for number in (b"NaN", b"Infinity", b"1000", b"null", b'"x"')
        ),
    ],
)
def test_no_body_however_strange_raises(body, choices):
    with OpenAIServer(respond=lambda n, b: Answer(body=body)) as server:
        (reply,) = model_at(server, max_retries=0).complete([ask(choices=choices)])
    assert reply.failure is not None


def completion(content, usage):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize(("said", "read"), [("7", 0), (10**30, 0), ([1], 0), (-4, 0), (1.5, 0), (None, 0), (7, 7)])
def test_a_count_of_tokens_that_is_none_counts_nothing(said, read):
    body = completion("ok", {"prompt_tokens": said, "completion_tokens": said})
    with OpenAIServer(respond=lambda n, b: Answer(body=body)) as server:
        (reply,) = model_at(server).complete([ask()])
    assert (reply.text, reply.usage.prompt_tokens, reply.usage.completion_tokens) == ("ok", read, read)


def test_half_a_character_is_replaced_on_both_ways():
    with OpenAIServer(respond=lambda n, b: Answer(body=completion("cut \ud83d", {}))) as server:
        (reply,) = model_at(server).complete([ask("a \ud83d")])
    assert reply.text == "cut ?"
    assert server.requests[0]["messages"][0]["content"][0]["text"] == "a ?"


def test_one_failing_request_leaves_the_others_alone():
    def respond(number, body):
        return Answer(status=400, body=b"no") if body["messages"][0]["content"][0]["text"] == "bad" else Answer("ok")

    with OpenAIServer(respond=respond) as server:
        replies = model_at(server).complete([ask(), ask("bad"), ask()])
    assert [reply.text for reply in replies] == ["ok", None, "ok"]


def test_the_json_schema_is_sent_as_openai_defines_it():
    with OpenAIServer(respond=lambda n, b: Answer('{"a": 1}')) as server:
        model_at(server).complete([ask(json_schema=SCHEMA)])
    sent = server.requests[0]["response_format"]
    assert sent == {"type": "json_schema", "json_schema": {"name": "Reply", "strict": True, "schema": SCHEMA}}


def test_a_server_that_refuses_schemas_is_asked_without_and_remembered():
    def respond(number, body):
        if "response_format" in body:
            return Answer(status=422, body=b'{"detail": "response_format: extra inputs are not permitted"}')
        return Answer('{"a": 1}')

    with OpenAIServer(respond=respond) as server:
        model = model_at(server)
        replies = [model.complete([ask(json_schema=SCHEMA)])[0] for _ in range(3)]
    assert [reply.text for reply in replies] == ['{"a": 1}'] * 3
    assert len(server.requests) == 4


def test_a_request_that_is_bad_in_itself_does_not_switch_schemas_off():
    with OpenAIServer(respond=lambda n, b: Answer(status=400, body=b"too long") if n < 2 else Answer("{}")) as server:
        model = model_at(server)
        assert model.complete([ask(json_schema=SCHEMA)])[0].failure.kind == "bad_request"
        model.complete([ask(json_schema=SCHEMA)])
    assert "response_format" in server.requests[-1]


def test_choice_logprobs_add_up_the_spellings_of_a_token():
    top = [("1", math.log(0.5)), (" 1", math.log(0.1)), ("2", math.log(0.3)), ("One", math.log(0.05))]
    with OpenAIServer(respond=lambda n, b: Answer("1", top_logprobs=top, finish_reason="length")) as server:
        (reply,) = model_at(server).complete([ask(choices=("1", "2"))])
    assert reply.choice_logprobs == pytest.approx({"1": math.log(0.6), "2": math.log(0.3)})
    assert server.requests[0]["logprobs"] is True
    assert server.requests[0]["max_tokens"] == 1


def test_a_server_without_logprobs_is_a_failure_not_a_guess():
    with OpenAIServer(respond=lambda n, b: Answer("1")) as server:
        (reply,) = model_at(server).complete([ask(choices=("1", "2"))])
    assert reply.failure.kind == "bad_request"
    assert reply.choice_logprobs is None


def test_extra_body_wins_and_none_removes_a_field():
    with OpenAIServer(respond=lambda n, b: Answer("ok")) as server:
        model_at(server, extra_body={"max_tokens": None, "max_completion_tokens": 9, "seed": 1}).complete([ask()])
    assert "max_tokens" not in server.requests[0]
    assert server.requests[0]["max_completion_tokens"] == 9
    assert server.requests[0]["seed"] == 1


def test_check_accepts_a_model_that_answers():
    with OpenAIServer(respond=lambda n, b: Answer("O", finish_reason="length")) as server:
        model_at(server).check()


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Answer(status=401, body=b'{"error": {"message": "bad key"}}'), PermissionError, "Check `api_key`"),
        (Answer(status=404, body=b'{"error": {"message": "no model"}}'), ValueError, "a model named 'judge'"),
        (Answer(status=400, body=b"strange"), ValueError, "status 400: strange"),
        (Answer(status=503, body=b""), ConnectionError, "status 503"),
        (Answer(hang_s=60), ConnectionError, "did not answer within 4 s"),
    ],
)
def test_check_says_what_is_wrong(answer, error, words):
    with OpenAIServer(respond=lambda n, b: answer) as server, pytest.raises(error, match=words):
        model_at(server, **({"timeout_s": 4.0} if answer.hang_s else {})).check()
    assert len(server.requests) == 1


def test_check_says_that_nothing_listens():
    with pytest.raises(ConnectionError, match=r"could not be reached.*vllm serve judge"):
        HTTPChatModel("judge", "http://127.0.0.1:9/v1").check()


def test_secrets_are_in_no_message(caplog):
    caplog.set_level("DEBUG")
    logging.getLogger("httpx2").setLevel("DEBUG")
    secret = "sk-very-secret"
    body = json.dumps({"error": {"message": f"wrong key {secret}, token in-the-url"}}).encode()
    with OpenAIServer(respond=lambda n, b: Answer(status=401, body=body)) as server:
        url = f"{server.url}?token=in-the-url"
        model = HTTPChatModel("judge", url, secret)
        (reply,) = model.complete([ask()])
        with pytest.raises(PermissionError) as caught:
            model.check()
    for text in (reply.failure.message, str(caught.value), repr(model), repr(caught.value.__context__), caplog.text):
        assert secret not in text
        assert "in-the-url" not in text


def test_half_a_secret_is_not_left_where_a_message_is_cut():
    body = b'{"error": "' + b"x" * 355 + b' sk-very-secret"}'
    with OpenAIServer(respond=lambda n, b: Answer(status=401, body=body)) as server:
        (reply,) = HTTPChatModel("judge", server.url, "sk-very-secret").complete([ask()])
    assert "xxx" in reply.failure.message
    assert "sk-" not in reply.failure.message


@pytest.mark.parametrize("url", ["http://user:hunter2@host/v1", "https://hunter2@host/v1", "user:hunter2@host/v1"])
def test_password_in_the_address_is_refused_and_not_shown(url):
    with pytest.raises(ValueError, match=r"base_url='.*host/v1' ") as caught:
        HTTPChatModel("judge", url)
    assert "hunter2" not in str(caught.value)
    if url.startswith("http"):
        assert "give the secret as `api_key`" in str(caught.value)


def test_the_login_token_is_not_sent_to_a_server_of_somebody_else(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_login")
    with OpenAIServer(respond=lambda n, b: Answer("ok")) as server:
        HTTPChatModel("judge", server.url).complete([ask()])
        HTTPChatModel("judge", server.url, "key").complete([ask()])
    assert "authorization" not in server.headers[0]
    assert server.headers[1]["authorization"] == "Bearer key"


def test_offline_mode_of_the_hub_does_not_cut_off_a_local_server(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with OpenAIServer(respond=lambda n, b: Answer("ok")) as server:
        (reply,) = HTTPChatModel("judge", server.url).complete([ask()])
        (elsewhere,) = HTTPChatModel("judge", api_key="hf_x", max_retries=0).complete([ask()])
    assert reply.text == "ok"
    assert "HF_HUB_OFFLINE" in elsewhere.failure.message


def test_a_provider_without_a_token_is_said_before_anything_is_sent(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"cannot be asked: You must provide an api_key"):
        HTTPChatModel("Qwen/Qwen3-VL-8B-Instruct").check()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "localhost:8000"}, "has to start with http://"),
        ({"base_url": "http://localhost", "provider": "together"}, "not both"),
        ({"max_concurrency": 0}, "max_concurrency=0 is outside"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_sent(settings, words):
    with pytest.raises(ValueError, match=words):
        HTTPChatModel("judge", **settings)


def test_construction_starts_no_thread():
    before = threading.active_count()
    HTTPChatModel("judge", "http://127.0.0.1:9/v1")
    assert threading.active_count() == before


def test_a_closed_model_can_be_used_again():
    with OpenAIServer(respond=lambda n, b: Answer("ok")) as server:
        model = model_at(server)
        model.complete([ask()])
        model.close()
        assert model.complete([ask()])[0].text == "ok"


def said(content, finish="stop", **message):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return Answer(body=json.dumps({"choices": [choice], "usage": None}).encode())


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "no"}]}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (said([{"type": "text", "text": "yes"}]), "yes"),
        (said([THOUGHT, {"type": "text", "text": "y"}, {"type": "output_text", "text": "es"}]), "yes"),
        (said([{"type": "reasoning", "summary": []}, {"type": "text", "text": "yes"}]), "yes"),
        (said("yes", reasoning_content="no"), "yes"),
        (said(None, reasoning_content="yes"), "yes"),
        (said("", reasoning="yes"), "yes"),
    ],
    ids=["parts", "a thinking part", "a reasoning part", "thoughts beside", "all taken for thoughts", "OpenRouter's"],
)
def test_an_answer_in_another_shape_is_not_a_broken_server(answer, text):
    with OpenAIServer(respond=lambda n, b: answer) as server:
        (reply,) = model_at(server, max_retries=0).complete([ask()])
    assert (reply.text, reply.failure) == (text, None)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (said(None, finish="length", reasoning_content="yes"), "truncated", "cut at 1024 tokens, while the model was"),
        (said([THOUGHT]), "empty", "The reply is empty"),
        (said(None, tool_calls=[{"function": {"arguments": "yes"}}]), "empty", "only the call of a tool"),
        (said(None, tool_calls=[{}], reasoning_content="yes"), "empty", "only the call of a tool"),
        (said(None, function_call={"name": "f"}, reasoning="yes"), "empty", "only the call of a tool"),
        (said("yes", finish="error"), "server", "broke off its reply with the reason 'error'"),
        (said("yes", finish="abort"), "server", "broke off"),
        (said([{"type": "refusal", "refusal": "no"}]), "refusal", "refused"),
        (said({"text": "yes"}), "server", r"content is no text but \{"),
        (said([{"type": "image_url"}]), "server", r"a part that is no text: \{.type"),
    ],
    ids=[
        "cut thoughts",
        "thoughts alone",
        "a tool",
        "a draft before a tool",
        "a draft before a function",
        "an error",
        "an abort",
        "a refusal in a part",
        "an object",
        "a picture",
    ],
)
def test_what_is_no_answer_is_told_as_what_it_is(answer, kind, words):
    with OpenAIServer(respond=lambda n, b: answer) as server:
        (reply,) = model_at(server, max_retries=0).complete([ask()])
    assert reply.failure.kind == kind
    assert re.search(words, reply.failure.message)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"object": "error", "message": "CUDA out of memory", "code": 500}, "server", "CUDA out of memory"),
        ({"error": {"message": "CUDA out of memory", "code": 400}}, "bad_request", "CUDA out of memory"),
        ({"error": "slow down", "code": 429}, "rate_limit", "slow down"),
        ({"choices": [{"error": {"message": "upstream", "code": 502}, "message": {}}]}, "server", "upstream"),
        ({"detail": "model is loading"}, "server", "model is loading"),
        ({"error": {"type": "odd"}}, "server", "odd"),
        ({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "no balance"}}, "server", "no balance"),
    ],
    ids=["vLLM's", "OpenAI's", "a code beside it", "OpenRouter's", "FastAPI's", "without words", "MiniMax's"],
)
def test_an_error_with_status_200_keeps_the_server_s_words(body, kind, words):
    with OpenAIServer(respond=lambda n, b: Answer(body=json.dumps(body).encode())) as server:
        (reply,) = model_at(server, max_retries=0).complete([ask()])
    assert reply.failure.kind == kind
    assert words in reply.failure.message


@pytest.mark.parametrize("choice", [{"text": "yes"}, {"delta": {"content": "yes"}}, {"message": None}])
def test_a_completion_of_another_kind_is_not_an_empty_reply_and_paid_twice(choice):
    with OpenAIServer(respond=lambda n, b: Answer(body=json.dumps({"choices": [choice]}).encode())) as server:
        (reply,) = model_at(server).complete([ask()])
    assert reply.failure.kind == "server"  # not "empty", which a judge would ask for again
    assert f"without a `message`, but with {next(iter(choice))}" in reply.failure.message
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"object": "error", "message": "At most 1 image(s) may be provided", "code": 400}',
        b'{"error": {"message": "At most 1 image(s) may be provided"}}',
        b'{"detail": [{"loc": ["body", "messages"], "msg": "At most 1 image(s) may be provided"}]}',
        b'{"errors": [{"detail": "At most 1 image(s) may be provided"}]}',
        b"At most 1 image(s) may be provided",
    ],
)
def test_the_reason_of_a_refused_request_is_not_dropped(body):
    with OpenAIServer(respond=lambda n, b: Answer(status=400, body=body)) as server:
        (reply,) = model_at(server).complete([ask()])
    assert "At most 1 image(s) may be provided" in reply.failure.message


def test_a_page_in_place_of_an_answer_is_told_as_a_page():
    page = Answer(body=b"<html>\n <h1>Sign in</h1>", headers={"content-type": "text/html"})
    with OpenAIServer(respond=lambda n, b: page) as server:
        (reply,) = model_at(server, max_retries=0).complete([ask()])
    assert "no chat completion but a web page; it begins: <html> <h1>Sign in</h1>" in reply.failure.message


@pytest.mark.parametrize("status", [500, 501])
def test_a_schema_that_a_server_cannot_compile_is_left_out(status):
    def respond(number, body):
        error = Answer(status=status, body=b'{"error": {"message": "Invalid grammar: minItems unsupported"}}')
        return error if "response_format" in body else Answer("{}")

    with OpenAIServer(respond=respond) as server:
        (reply,) = model_at(server).complete([ask(json_schema=SCHEMA)])
    assert reply.text == "{}"
    assert len(server.requests) == 2


@pytest.mark.parametrize("mark", ["", " ", "▁", "Ġ"])
def test_a_token_with_the_mark_of_its_vocabulary_is_a_choice(mark):
    top = [(f"{mark}1", math.log(0.7)), (f"{mark}2", math.log(0.2))]
    with OpenAIServer(respond=lambda n, b: Answer("1", top_logprobs=top)) as server:
        (reply,) = model_at(server).complete([ask(choices=("1", "2"))])
    assert reply.choice_logprobs == pytest.approx({"1": math.log(0.7), "2": math.log(0.2)})


def logprobs(shape):
    choice = {"index": 0, "finish_reason": "length", "message": {"content": "1"}, "logprobs": shape}
    return Answer(body=json.dumps({"choices": [choice]}).encode())


@pytest.mark.parametrize(
    "shape",
    [
        {"content": [{"token": "1", "logprob": -0.1, "top_logprobs": [{"token": "2", "logprob": -2.4}]}]},
        {"tokens": ["1"], "token_logprobs": [-0.1], "top_logprobs": [{"1": -0.1, "2": -2.4}]},
    ],
    ids=["a list of the others", "the older shape"],
)
def test_log_probabilities_are_read_in_the_shapes_that_servers_give_them(shape):
    with OpenAIServer(respond=lambda n, b: logprobs(shape)) as server:
        (reply,) = model_at(server).complete([ask(choices=("1", "2"))])
    assert reply.choice_logprobs == pytest.approx({"1": -0.1, "2": -2.4})


def test_one_log_probability_alone_is_no_choice():
    alone = logprobs({"content": [{"token": "1", "logprob": -0.1, "top_logprobs": []}]})
    with OpenAIServer(respond=lambda n, b: alone) as server:
        (reply,) = model_at(server).complete([ask(choices=("1", "2"))])
    assert "none beside it (`top_logprobs` is empty)" in reply.failure.message


@pytest.mark.parametrize(
    "url",
    [
        "http://h:80000/v1",
        "http://h:8000:8001/v1",
        "http://h:port/v1",
        "http://[::1/v1",
        "http://::1/v1",
        "http:///v1",
        "http://h/v1 ",
        "http://h\n/v1",
    ],
)
def test_a_malformed_address_is_one_sentence(url):
    with pytest.raises(ValueError, match=r"^base_url='http.*(write host and port|has a space or a line break)"):
        HTTPChatModel("judge", url)


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-secret two", "“sk-secret”"])
def test_a_key_that_no_request_can_carry_is_told_and_not_shown(key):
    with pytest.raises(ValueError, match="The `api_key` has a space, a line break or a letter") as caught:
        HTTPChatModel("judge", "http://127.0.0.1:9/v1", key)
    assert "secret" not in str(caught.value)


class Raises:
    def __init__(self, error):
        self.error = error

    async def chat_completion(self, **arguments):
        raise self.error


@pytest.mark.parametrize("error", [ImportError("no socksio"), OSError("no certificates"), ZeroDivisionError("odd")])
def test_no_exception_whatever_it_is_leaves_complete(error):
    model = HTTPChatModel("judge", "http://127.0.0.1:9/v1", max_retries=0)
    model._new_client = lambda: Raises(error)
    (reply,) = model.complete([ask()])
    assert str(error) in reply.failure.message


def test_a_picture_that_cannot_be_read_is_a_failure_of_its_request_alone(tmp_path):
    Image.effect_noise((64, 64), 80).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    with OpenAIServer(respond=lambda n, b: Answer("ok")) as server:
        replies = model_at(server).complete([ask(image=Image.open(tmp_path / "cut.png")), ask()])
    assert "truncated" in replies[0].failure.message
    assert replies[1].text == "ok"


def test_why_a_server_could_not_be_reached_is_told(monkeypatch):
    def failure(url):
        (reply,) = HTTPChatModel("judge", url, max_retries=0).complete([ask()])
        assert reply.failure.kind == "connection"
        return reply.failure.message

    assert f"[Errno {errno.ECONNREFUSED}]" in failure("http://127.0.0.1:9/v1")
    with OpenAIServer(respond=lambda n, b: Answer("ok")) as server:
        assert "SSL" in failure(server.url.replace("http:", "https:"))
    monkeypatch.setenv("http_proxy", "http://user:hunter2@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    through = failure("http://judge.invalid/v1")
    assert "through the proxy that `http_proxy` names in the environment" in through
    assert "hunter2" not in through
