"""The vision-language model that ships with the package: real classes, an offline tokenizer, and a base worth teaching."""

import json

import numpy as np
import pytest
import torch
from transformers import Qwen2Tokenizer, Qwen3VLForConditionalGeneration

from arr_trl import PresetJudge
from arr_trl.chat.local import LocalChatModel
from arr_trl.chat.vlm import load_processor, load_vlm
from arr_trl.evaluation.judge_eval import evaluate_judge
from arr_trl.judge_training.rows import check_labels
from arr_trl.judges import load_preset
from arr_trl.tiny_scenes import VLM_BASE_MODEL, Caption, build_vlm, captions, check, preferences, pretrain_vlm, read
from arr_trl.tiny_scenes.preferences import draw_with_faults
from arr_trl.tiny_scenes.vlm import CHAT_TEMPLATE, TOKENS_OF_A_PICTURE, report


@pytest.fixture(scope="module")
def shipped():
    return load_vlm("tiny_scenes_vlm", dtype="float32"), load_processor("tiny_scenes_vlm")


def test_base_reads_pictures_and_reports_on_captions_it_never_saw(shipped):
    rates = pretrain_vlm.measure(*shipped, count=200)
    assert rates["reading"] > 0.9
    assert rates["report"] > 0.8


def test_base_is_at_chance_on_how_good_a_picture_is(shipped):
    judge = PresetJudge("tiny_scenes", LocalChatModel(*shipped, batch_size=64), order="fixed", max_failure_rate=None)
    summary = evaluate_judge(judge, preferences(120, split="test", in_turn=True)).summary()
    assert summary["invalid_rate"] == 0.0
    assert 0.35 < summary["accuracy_mean"] < 0.65


def test_weights_stay_under_four_megabytes_and_name_no_class_of_ours():
    assert sum(f.stat().st_size for f in VLM_BASE_MODEL.rglob("*") if f.is_file()) < 4_000_000
    assert isinstance(Qwen3VLForConditionalGeneration.from_pretrained(VLM_BASE_MODEL), torch.nn.Module)
    named = [json.loads(file.read_text()).get("processor_class") for file in VLM_BASE_MODEL.glob("*_config.json")]
    assert set(named) <= {"Qwen3VLProcessor", None}
    assert (VLM_BASE_MODEL / "chat_template.jinja").read_text() == CHAT_TEMPLATE


def test_what_is_trained_on_it_names_it_as_everybody_can_load_it(shipped):
    assert shipped[0].config._name_or_path == shipped[0].name_or_path == "tiny_scenes_vlm"


def test_each_word_is_one_token_and_other_text_falls_back_to_bytes(shipped):
    _, processor = shipped
    assert isinstance(processor.tokenizer, Qwen2Tokenizer)
    for text in [*captions("test"), report({"colors": True, "shapes": False, "relation": True, "count": True})]:
        assert len(processor.tokenizer(text).input_ids) == len(text.split())
    assert processor.tokenizer.decode(processor.tokenizer("an unknown zebra").input_ids) == "an unknown zebra"
    check_labels(load_preset("tiny_scenes"), processor)


def test_what_it_is_taught_of_a_picture_is_what_the_reader_sees():
    rng = np.random.default_rng(3)
    for text in captions("train")[:60]:
        caption = Caption.parse(text)
        image, drawn, stray = draw_with_faults(caption, 0.5, rng)
        assert pretrain_vlm.Scene(caption, drawn, stray, image).met == check(caption, read(image))


def test_lessons_ask_in_the_tokens_that_a_judge_is_asked_in_and_only_what_the_picture_tells_is_learned():
    _, processor = build_vlm()
    lessons = pretrain_vlm.Lessons(processor, "train", np.random.default_rng(0))
    inputs, labels = lessons.batch(4, "report")
    seen = np.random.default_rng(0)
    scenes = [pretrain_vlm.scene("train", seen) for _ in range(4)]
    asked = [
        [{"role": "user", "content": [{"type": "image", "image": s.image}, {"type": "text", "text": str(s.caption)}]}]
        for s in scenes
    ]
    prompts = processor.apply_chat_template(asked, tokenize=True, return_dict=True)
    for row, prompt in enumerate(prompts["input_ids"]):
        assert inputs["input_ids"][row, : len(prompt)].tolist() == list(prompt)
        told = processor.tokenizer.decode(labels[row][labels[row] >= 0])
        words = [word for _, word in sorted(scenes[row].shown_words().items())]
        assert told.split() == words + report(scenes[row].met).split()[1::2]
        assert words[:2] == [scenes[row].drawn.shape1, scenes[row].drawn.relation.split()[0]]
    assert torch.equal(inputs["pixel_values"], torch.as_tensor(np.array(prompts["pixel_values"])))
    assert inputs["mm_token_type_ids"].sum(1).tolist() == [TOKENS_OF_A_PICTURE] * 4


def test_pre_training_runs_and_writes_a_model_that_loads(tmp_path, monkeypatch, capsys):
    argv = ["pretrain_vlm", "--output", str(tmp_path / "vlm"), "--shorten", "200", "--batch_size", "4"]
    monkeypatch.setattr("sys.argv", argv)
    monkeypatch.setattr(pretrain_vlm, "measure", lambda *args: {"reading": 0.5})
    pretrain_vlm.main()
    assert "wrote" in capsys.readouterr().out
    assert LocalChatModel(load_vlm(str(tmp_path / "vlm"), dtype="float32"), load_processor(str(tmp_path / "vlm")))
