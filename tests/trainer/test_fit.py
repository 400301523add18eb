"""What a run takes of a card, counted without weights: each setting that saves memory shows, and FLUX.1-dev is as it was counted."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from arr_trl import DiffusionNFTConfig, FluxPolicy, RPOConfig
from arr_trl.shipped import place_of
from arr_trl.tiny_scenes import load_pipeline
from arr_trl.trainer import AlignPropConfig
from arr_trl.trainer.fit import Memory, bytes_of, memory_of


LORA = LoraConfig(r=4, lora_alpha=8)


def counted(model="tiny_scenes", config=RPOConfig, peft_config=LORA, **settings) -> Memory:
    small = {
        "height": 32,
        "width": 32,
        "per_device_train_batch_size": 28,
        "gradient_accumulation_steps": 1,
        "bf16": False,
    }
    args = config(output_dir="unused", use_cpu=True, **small | settings)
    return memory_of(place_of(model), args, peft_config)


def test_weights_are_those_that_would_be_read():
    pipeline, memory = load_pipeline(), counted()
    assert memory.transformer == bytes_of(pipeline.transformer)
    assert memory.encoders == sum(map(bytes_of, (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2)))
    targets = [
        m
        for n, m in pipeline.transformer.named_modules()
        if n.endswith(tuple(f".{target}" for target in FluxPolicy.target_modules))
    ]
    linear = [m for m in targets if isinstance(m, torch.nn.Linear)]
    assert memory.trained == 16 * sum(4 * (m.in_features + m.out_features) for m in linear)
    assert memory.peak == memory.kept + max(memory.phases.values())


def test_what_saves_memory_shows():
    usual = counted()
    kept = counted(
        offload_encoders=True, offload_blocks=True, rollout_batch_size=1, ema_decay=0.9, max_cached_prompts=64
    )
    assert kept.encoders == 0
    assert kept.phases["sampling"] < usual.phases["sampling"]
    assert kept.trained == usual.trained * 20 / 16
    assert kept.prompts * 16 == usual.prompts
    assert kept.transformer < usual.transformer
    rounded = counted(base_precision="fp8")
    assert rounded.transformer < 0.6 * usual.transformer
    # a weight is widened while its layer computes, and counted once; the backward of a block keeps those of all its layers
    transformer = load_pipeline().transformer
    block = max(map(bytes_of, [*transformer.transformer_blocks, *transformer.single_transformer_blocks]))
    assert rounded.phases["sampling"] < usual.phases["sampling"] + 0.1 * rounded.transformer
    assert rounded.phases["training"] < usual.phases["training"] + 1.1 * block
    more = counted(
        gradient_checkpointing=False, per_device_train_batch_size=14, peft_config=LoraConfig(r=8, lora_alpha=8)
    )
    assert more.phases["training"] > usual.phases["training"]  # of half as many rows
    assert more.trained == 2 * usual.trained


def test_all_weights_are_counted_with_gradients_and_optimizer_and_their_copies_on_the_host():
    transformer, full = load_pipeline().transformer, {"peft_config": None, "use_peft": False, "beta": 0.0}
    numbers = sum(weight.numel() for weight in transformer.parameters())
    alone = counted(**full)
    assert (alone.transformer, alone.trained, alone.host) == (0, 16 * numbers, 0)
    assert counted(**full | {"beta": 0.1}).host == 4 * numbers  # the base as it was loaded, in float32
    assert counted(**full, bf16=True, ema_decay=0.9).host == 4 * numbers  # an average, whatever the base is in
    assert counted(**full | {"beta": 0.1}, bf16=True).host == 2 * numbers
    # what reads a rounded weight keeps it for its backward
    adapter, rounded = counted(bf16=True), counted(**full, bf16=True)
    assert rounded.phases["training"] > adapter.phases["training"]
    assert rounded.trained == alone.trained
    assert "in the host's memory copies of the weights" in str(counted(**full | {"beta": 0.1}))


def test_decoding_takes_no_more_for_a_larger_rollout():
    few, many = (counted(height=512, width=512, rollout_batch_size=rows) for rows in (2, 4))
    assert many.phases["sampling"] > few.phases["sampling"]
    assert many.phases["decoding"] == few.phases["decoding"]


def test_editing_is_counted_and_what_is_not_counted_is_said():
    edit = {"condition_size": 32, "guidance_scale": 1.0, "per_device_train_batch_size": 56}
    assert counted("tiny_scenes_edit", DiffusionNFTConfig, **edit).phases["training"] > 0
    assert counted("tiny_scenes_edit", **edit | {"condition_size": 64}).phases["training"] > counted(
        "tiny_scenes_edit", **edit
    ).phases["training"]  # fmt: skip
    without = counted(config=AlignPropConfig)
    assert without.phases == {}
    assert "what its passes take is not counted here" in str(without)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "rank", "settings", "weights", "peaks"), [
    ("flux", 16, {}, 23.8, {"sampling": 25.7, "decoding": 26.0, "training": 27.6}),
    ("qwen-edit", 32, {"condition_size": 512}, 40.9, {"sampling": 43.8, "decoding": 45.8, "training": 47.8}),
])  # fmt: skip
def test_full_size_is_what_was_counted_as_it_was_allocated(
    model, rank, settings, weights, peaks, tmp_path, monkeypatch
):
    """docs/source/speed.md, "Recipes by card", by benchmarks/recipe_memory.py: another way of counting, to a GB."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from full_size import TEXT_TOKENS, build_policy

    pipeline = build_policy(
        Namespace(model=model, blocks=None, narrow=False, size=512, text_tokens=TEXT_TOKENS), "meta"
    ).pipeline
    index = {"_class_name": type(pipeline).__name__}
    for name in ("transformer", "vae", "scheduler"):
        getattr(pipeline, name).save_config(tmp_path / name)
        index[name] = ["diffusers", type(getattr(pipeline, name)).__name__]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    args = RPOConfig(
        output_dir="unused", height=512, width=512, num_inference_steps=2, sde_window_size=1, share_initial_noise=False,
        classifier_free_guidance="off", per_device_train_batch_size=4, gradient_accumulation_steps=2, rollout_batch_size=4,
        offload_encoders=True, use_cpu=True, bf16=True, **settings,
    )  # fmt: skip
    memory = memory_of(str(tmp_path), args, LoraConfig(r=rank, lora_alpha=rank), num_prompts=1)
    assert memory.transformer / 1e9 == pytest.approx(weights, abs=0.05)
    for phase, peak in peaks.items():
        assert (memory.kept + memory.phases[phase]) / 1e9 == pytest.approx(peak, abs=1), phase
