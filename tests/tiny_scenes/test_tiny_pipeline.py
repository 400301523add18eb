"""The pipeline that ships with the package: real classes, offline tokenizers, and a base worth training."""

import pytest
import torch
from transformers import CLIPTokenizer, T5Tokenizer

from arr_trl.evaluation import success_rates
from arr_trl.tiny_scenes import (
    BASE_MODEL,
    MAX_SEQUENCE_LENGTH,
    build_pipeline,
    captions,
    load_pipeline,
    pretrain,
    success,
)


def test_base_is_mediocre_and_can_draw():
    pipeline = load_pipeline()
    prompts = captions("test")[:120]
    pictures = pipeline(
        prompts, height=32, width=32, num_inference_steps=8, max_sequence_length=MAX_SEQUENCE_LENGTH,
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    rates = success_rates(success(prompts, pictures))
    assert 0.15 <= rates.success_all <= 0.5
    assert rates.success["count"] > 0.85


def test_weights_stay_under_ten_megabytes():
    assert sum(f.stat().st_size for f in BASE_MODEL.rglob("*") if f.is_file()) < 10_000_000


def test_every_caption_fits_the_text_encoders():
    pipeline = build_pipeline()
    assert isinstance(pipeline.tokenizer, CLIPTokenizer)
    assert isinstance(pipeline.tokenizer_2, T5Tokenizer)
    for text in captions("test"):
        assert len(pipeline.tokenizer_2(text).input_ids) <= MAX_SEQUENCE_LENGTH
        assert len(pipeline.tokenizer(text).input_ids) <= pipeline.tokenizer.model_max_length


def test_same_seed_builds_the_same_pipeline():
    first, second = (build_pipeline(seed=3).transformer.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_pretraining_script_writes_a_pipeline_that_loads(tmp_path, monkeypatch):
    argv = ["pretrain", "--output", str(tmp_path), "--shorten", "100", "--pictures", "64", "--batch_size", "8"]
    monkeypatch.setattr("sys.argv", argv)
    pretrain.main()
    assert load_pipeline(tmp_path)("a red circle", height=32, width=32, num_inference_steps=1).images[0].size == (
        32,
        32,
    )
