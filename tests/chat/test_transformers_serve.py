"""A real `transformers serve` on loopback: what it answers, and that the same weights in process agree with it."""

import math
from dataclasses import replace

import pytest
from PIL import Image
from tiny_vlm import build_vlm
from transformers import AutoTokenizer
from transformers_server import transformers_serve

from arr_trl.chat import ChatRequest, HTTPChatModel
from arr_trl.chat.local import LocalChatModel


QUESTION = ChatRequest(
    [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which?"},
                {"type": "image", "image": Image.new("RGB", (40, 30), "red")},
            ],
        }
    ],
    max_tokens=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    build_vlm(folder)
    return str(folder)


@pytest.fixture(scope="module")
def url(folder):
    with transformers_serve(folder) as url:
        yield url


def test_it_answers_as_the_same_weights_do_in_process(url, folder):
    http = HTTPChatModel(folder, url)
    http.check()
    (served,) = http.complete([QUESTION])
    (local,) = LocalChatModel(folder).complete([QUESTION])
    assert served.text == local.text
    assert served.usage == local.usage
    assert served.failure == local.failure


def test_choice_logprobs_in_process_are_those_of_the_server_to_1e_4(url, folder):
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    (local,) = LocalChatModel(folder).complete([replace(QUESTION, choices=tuple(vocabulary))])
    logprobs = local.choice_logprobs
    assert sum(map(math.exp, logprobs.values())) == pytest.approx(1, abs=1e-5)
    rivals = vocabulary.keys() - {"1"}
    leads = {rival: logprobs["1"] - logprobs[rival] for rival in rivals}  # which make every rival level with "1"

    def served(biases):
        bias = {"logit_bias": {str(vocabulary[token]): value for token, value in biases.items()}}
        (reply,) = HTTPChatModel(folder, url, extra_body=bias).complete([replace(QUESTION, max_tokens=1)])
        return reply.text

    # `transformers serve` reports no log-probabilities (5.23), but it takes a bias on tokens. Where every token of the
    # vocabulary loses against "1" just below its lead and wins just above it, all differences of logits are ours, and
    # with them the log-probabilities, -log Σ exp(z_rival - z_choice): to 4e-5 for "1", to twice that for "2".
    assert served({rival: lead - 4e-5 for rival, lead in leads.items()}) == "1"
    for rival, lead in leads.items():
        assert served({"1": 40.0, rival: 40.0 + lead + 4e-5}) != "1", rival


def test_asking_for_logprobs_says_that_there_are_none(url, folder):
    (reply,) = HTTPChatModel(folder, url).complete([ChatRequest(QUESTION.messages, choices=("1", "2"))])
    assert "sent no log-probabilities" in reply.failure.message


def test_a_model_it_does_not_serve_fails_at_the_check(url):
    with pytest.raises(ValueError, match="serves a model named 'another'"):
        HTTPChatModel("another", url).check()
