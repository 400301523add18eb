import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import create_model
from tiny_vlm import build_vlm
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.integrations import deepspeed as hf_deepspeed

from arr_trl.chat import ChatRequest
from arr_trl.chat.current_device import on_device
from arr_trl.chat.local import LocalChatModel
from arr_trl.judges import JudgeRow, RubricJudge
from arr_trl.judges.parsing import parse_reply
from arr_trl.rubrics import Criterion, Rubric


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    build_vlm(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(folder):
    return LocalChatModel(folder, batch_size=3)


def ask(text, *colors, **settings):
    content = [{"type": "text", "text": text}]
    content += [{"type": "image", "image": Image.new("RGB", (40, 30), color)} for color in colors]
    return ChatRequest([{"role": "user", "content": content}], **settings)


QUESTIONS = [ask("Which?", "red"), ask("Which of the two?", "red", "blue"), ask("Tell me."), ask("A", "green")]


def test_a_batch_gives_what_each_request_gives_alone(model):
    choices = [replace(question, choices=("1", "2")) for question in QUESTIONS]
    together = [reply.choice_logprobs for reply in model.complete(choices)]
    for question, logprobs in zip(choices, together, strict=True):
        assert logprobs == pytest.approx(model.complete([question])[0].choice_logprobs, abs=1e-4)
    texts = [replace(question, max_tokens=6) for question in QUESTIONS]
    together = [reply.text for reply in model.complete(texts)]
    assert together == [model.complete([question])[0].text for question in texts]
    assert len(set(together)) > 1


def test_whichever_thread_asks_computes_on_the_model_s_device(model, monkeypatch):
    """In a new thread the device is the first one, whatever the process trains on."""
    entered = []

    @contextmanager
    def on_device(device):
        entered.append((device, threading.current_thread().name))
        yield

    monkeypatch.setattr("arr_trl.chat.local.on_device", on_device)
    with ThreadPoolExecutor(1, thread_name_prefix="judge") as pool:
        pool.submit(model.complete, QUESTIONS[:1]).result()
    assert entered == [(torch.device("cpu"), "judge_0")]
    assert model.device == model.vlm.device


def test_device_of_a_thread_is_set_by_its_number_and_only_where_there_are_several(monkeypatch):
    chosen = []

    @contextmanager
    def device_index(index):
        chosen.append(index)
        yield

    monkeypatch.setattr(torch.accelerator, "device_index", device_index)
    for name in ("cuda:3", "cpu", "cuda"):
        with on_device(torch.device(name)):
            pass
    assert chosen == [3]


def test_choice_logprobs_are_the_model_s_own(model, folder):
    (reply,) = model.complete([ask("Which?", "red", choices=("1", "2"))])
    vlm, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    inputs = processor(
        images=[Image.new("RGB", (40, 30), "red")], text="user:Which?<image></s>assistant:", return_tensors="pt"
    )
    with torch.no_grad():
        logprobs = vlm(**inputs).logits[0, -1].log_softmax(-1)
    expected = {choice: logprobs[processor.tokenizer.convert_tokens_to_ids(choice)].item() for choice in "12"}
    assert reply.choice_logprobs == pytest.approx(expected, abs=1e-5)


def test_requests_of_different_kinds_come_back_in_order(model):
    replies = model.complete([ask("a", max_tokens=3), ask("b", choices=("1", "2")), ask("c", max_tokens=5)])
    assert [r.usage.completion_tokens for r in replies] == [3, 1, 5]
    assert [r.choice_logprobs is None for r in replies] == [True, False, True]
    assert replies[0].failure.kind == "truncated"


def test_it_is_frozen_and_judges(model):
    assert not any(parameter.requires_grad for parameter in model.vlm.parameters())
    rubric = Rubric(name="r", criteria=[Criterion(text="The image is bright.")])
    judge = RubricJudge(rubric=rubric, model=model, mode="choice", tie_margin=0.0)
    judge.check()
    row = JudgeRow("a lamp", (Image.new("RGB", (28, 28), "white"), Image.new("RGB", (28, 28), "black")))
    (verdict,) = judge.compare([row])
    assert verdict.failure is None
    assert verdict.winner in (0, 1)


def test_text_that_is_no_json_is_a_masked_verdict(model):
    rubric = Rubric(name="r", criteria=[Criterion(text="x")])
    row = JudgeRow("a", (Image.new("RGB", (28, 28)), Image.new("RGB", (28, 28), "white")))
    (verdict,) = RubricJudge(rubric=rubric, model=model, max_tokens=4).compare([row])
    assert verdict.failure == "The reply was cut at 4 tokens."


def test_a_choice_of_several_tokens_is_refused(model):
    with pytest.raises(ValueError, match="'yes' is more than one token"):
        model.complete([ask("a", choices=("yes", "no"))])


def test_a_processor_without_chat_template_is_refused(folder):
    processor = AutoProcessor.from_pretrained(folder)
    processor.chat_template = None
    vlm = AutoModelForImageTextToText.from_pretrained(folder)
    with pytest.raises(ValueError, match="has no chat template"):
        LocalChatModel(vlm, processor)
    with pytest.raises(ValueError, match="needs its `processor`"):
        LocalChatModel(vlm)


def test_it_is_loaded_whole_under_zero_3(folder):
    class ZeRO3Config:
        def is_zero3(self):
            return True

    config = ZeRO3Config()
    hf_deepspeed.set_hf_deepspeed_config(config)
    try:
        model = LocalChatModel(folder)
        assert hf_deepspeed.is_deepspeed_zero3_enabled()
        assert all(parameter.numel() for parameter in model.vlm.parameters())
        assert model.complete([QUESTIONS[0]])[0].usage.completion_tokens > 0
    finally:
        hf_deepspeed.unset_hf_deepspeed_config()


def test_thoughts_that_end_with_a_special_token_are_told_from_the_answer(folder, monkeypatch):
    model = LocalChatModel(folder)
    tokenizer = model.processor.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["</think>"]})
    said = [*tokenizer.encode('I look. {"a": 1}</think>\n{"a": 2}', add_special_tokens=False), 2]

    def generate(**inputs):
        return torch.cat([inputs["input_ids"], torch.tensor([said])], dim=1)

    monkeypatch.setattr(model.vlm, "generate", generate)
    (reply,) = model.complete([ask("Which?", max_tokens=99)])
    # this tokenizer puts a space between letters
    assert parse_reply(reply.text.replace(" ", ""), create_model("A", a=(int, ...))).a == 2


def test_a_transparent_picture_is_shown_on_white_and_16_bits_as_bright_as_they_are(folder):
    model = LocalChatModel(folder)
    for image, seen in (
        (Image.new("RGBA", (8, 8), (220, 10, 10, 0)), (255, 255, 255)),
        (Image.fromarray(np.full((8, 8), 30000, np.uint16)), (116, 116, 116)),
    ):
        assert model._part({"type": "image", "image": image})["image"].getpixel((3, 3)) == seen


def test_what_a_model_raises_is_a_failure_of_its_batch_alone(folder):
    model = LocalChatModel(folder, batch_size=1)
    model._part = lambda part: part if part.get("text") != "bad" else 1 / 0
    replies = model.complete([ask("Which?", max_tokens=2), ask("bad", max_tokens=2), ask("Who?", max_tokens=2)])
    assert [reply.text is None for reply in replies] == [False, True, False]
    assert "division by zero (ZeroDivisionError)" in replies[1].failure.message


def test_other_weights_of_the_same_name_are_another_judge(folder):
    vlm, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    before = LocalChatModel(vlm, processor)
    assert LocalChatModel(folder).settings == before.settings
    with torch.no_grad():
        next(vlm.parameters()).mul_(1.01)
    after = LocalChatModel(vlm, processor)
    assert after.model == before.model
    assert after.settings != before.settings


def test_adapter_on_an_adapter_is_loaded_as_it_was_trained(folder, tmp_path):
    from peft import LoraConfig, get_peft_model

    from arr_trl.chat.vlm import load_vlm

    expected, place = None, str(folder)
    for number, name in enumerate(("first", "second")):
        torch.manual_seed(number)
        lora = LoraConfig(r=2, target_modules=r".*language_model.*\.v_proj", init_lora_weights=False)
        trained = get_peft_model(load_vlm(place), lora).eval()
        trained.save_pretrained(tmp_path / name)
        place = str(tmp_path / name)
        with torch.no_grad():
            expected = trained(input_ids=torch.arange(5, 20)[None]).logits
    judge = LocalChatModel(place)
    with torch.no_grad():
        found = judge.vlm(input_ids=torch.arange(5, 20)[None]).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert judge.model == place
