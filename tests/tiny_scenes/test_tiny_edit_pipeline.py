"""The editor that ships with the package: real classes, an offline tokenizer, and a base worth training."""

import json

import numpy as np
import pytest
import torch
from diffusers import QwenImageEditPipeline
from transformers import Qwen2Tokenizer

from arr_trl.evaluation import success_rates
from arr_trl.policies import load_policy
from arr_trl.policies.qwen_image_edit import ImageOnlyProcessor, QwenImageEditPolicy
from arr_trl.tiny_scenes import (
    CONDITION_SIZE,
    EDIT_BASE_MODEL,
    build_edit_pipeline,
    edit_pictures,
    edit_prompts,
    edit_success,
    load_edit_pipeline,
    pretrain_edit,
    read,
)
from arr_trl.tiny_scenes.edits import all_instructions


def test_base_is_mediocre_and_knows_the_edits():
    rows = edit_prompts("test[:120]")
    sources = list(rows["source_image"])
    pictures = edit_pictures(load_edit_pipeline(), rows["prompt"], sources, torch.Generator().manual_seed(0))
    rates = success_rates(edit_success(rows["prompt"], pictures, source_image=sources))
    assert 0.15 <= rates.success_all <= 0.5
    assert 0.3 < rates.success["edit"] < 0.9
    assert rates.success["count"] > 0.6


def test_weights_stay_under_ten_megabytes():
    assert sum(f.stat().st_size for f in EDIT_BASE_MODEL.rglob("*") if f.is_file()) < 10_500_000


def test_published_files_name_no_class_of_ours():
    """Stock diffusers reads them, with the processor class that Qwen-Image-Edit names."""
    index = json.loads((EDIT_BASE_MODEL / "model_index.json").read_text())
    assert {library for library, _ in (value for value in index.values() if isinstance(value, list))} == {
        "diffusers", "transformers",
    }  # fmt: skip
    processor = ImageOnlyProcessor.from_pretrained(EDIT_BASE_MODEL, subfolder="processor")
    pipeline = QwenImageEditPipeline.from_pretrained(EDIT_BASE_MODEL, processor=processor)
    assert isinstance(pipeline.tokenizer, Qwen2Tokenizer)


def test_each_word_of_an_instruction_is_one_token_and_the_template_is_as_long_as_qwens():
    pipeline = build_edit_pipeline()
    for text in all_instructions():
        assert len(pipeline.tokenizer(text).input_ids) == len(text.split())
    system, _, _ = pipeline.prompt_template_encode.partition("<|vision_start|>")
    assert len(pipeline.tokenizer(system).input_ids) == pipeline.prompt_template_encode_start_idx
    assert len(pipeline.tokenizer("an unknown zebra").input_ids) > 3


def test_a_scene_is_a_few_tokens():
    settings = {"condition_size": CONDITION_SIZE, "negative_prompt": None}
    policy = load_policy(str(EDIT_BASE_MODEL), {"height": 32, "width": 32}, settings)
    row = edit_prompts("test[:1]")[0]
    conditioning = policy.encode([row], 32, 32)
    assert conditioning["source_latents"].shape == (1, 16, 64)
    assert conditioning["prompt_embeds"].shape[1] <= pretrain_edit.MAX_TEXT_TOKENS
    assert read(policy.decode(conditioning["source_latents"], 32, 32)[0]) != []


def test_same_seed_builds_the_same_pipeline():
    first, second = (build_edit_pipeline(seed=3) for _ in range(2))
    for name in ("transformer", "text_encoder", "vae"):
        others = getattr(second, name).state_dict()
        assert all(torch.equal(tensor, others[key]) for key, tensor in getattr(first, name).state_dict().items())
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()


def test_pretraining_conditions_as_the_pipeline_does(monkeypatch):
    """The script's own path through encoder and autoencoder gives what the pipeline gives, or the weights fit nothing."""
    pipeline = build_edit_pipeline()
    texts, sources, edited = pretrain_edit.make_data(4, np.random.default_rng(0), noise=0.0)
    seen = []

    def look(models, latents_NLC, velocity, *settings):
        with torch.no_grad():
            seen.append((latents_NLC, velocity(torch.arange(4), latents_NLC, torch.full((4,), 0.5))))

    monkeypatch.setattr(pretrain_edit, "train_flow", look)
    pretrain_edit.train(pipeline, texts, sources, edited, pretrain_edit.PHASES[0])
    ((latents, trained_on),) = seen
    policy = QwenImageEditPolicy(pipeline, condition_size=CONDITION_SIZE, negative_prompt=None)
    rows = [{"prompt": text, "source_image": source} for text, source in zip(texts, sources, strict=True)]
    velocity = policy.velocity(pipeline.transformer, latents, torch.full((4,), 0.5), policy.encode(rows, 32, 32), 1.0)
    assert (velocity - trained_on).abs().max() < 1e-4


def test_the_last_pictures_of_pretraining_are_partly_wrong_and_the_first_are_not():
    rng = np.random.default_rng(0)
    shares = []
    for noise in (0.0, 1.0):
        texts, sources, edited = pretrain_edit.make_data(200, rng, noise)
        shares.append(success_rates(edit_success(texts, edited, source_image=sources)).success_all)
    assert shares[0] > 0.99
    assert 0.3 < shares[1] < 0.8


@pytest.mark.slow
def test_pretraining_script_writes_a_pipeline_that_loads(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pretrain_edit", "--output", str(tmp_path), "--shorten", "200"])
    pretrain_edit.main()
    row = edit_prompts("test[:1]")[0]
    (picture,) = edit_pictures(load_edit_pipeline(tmp_path), [row["prompt"]], [row["source_image"]])
    assert picture.size == (32, 32)
