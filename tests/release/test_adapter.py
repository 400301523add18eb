import json
import os
import subprocess
import sys

import loaders
import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open

from arr_trl.release import ADAPTER_FILES, check_lora_config, public_name, save_adapter
from arr_trl.tiny_scenes.pipeline import build_pipeline


CARD_TARGETS = [
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
]


def picture(pipeline) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    prompt = "a red circle left of a blue square"
    return pipeline(
        prompt,
        height=32,
        width=32,
        max_sequence_length=12,
        num_inference_steps=2,
        generator=generator,
        output_type="np",
    ).images


def trained_pipeline(adapter_name="default", **lora):
    """A pipeline whose transformer holds an adapter with random weights, as training would leave it."""
    pipeline = build_pipeline(0)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["attn.to_q", "attn.to_v"], **lora})
    pipeline.transformer = get_peft_model(pipeline.transformer, config, adapter_name=adapter_name)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in pipeline.transformer.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    return pipeline


LORAS = {
    "alpha differs from r": {},
    "the card's targets": {"target_modules": CARD_TARGETS},
    "regex": {"target_modules": r".*transformer_blocks\.\d+\.attn\.to_[qk]"},
    "excluded modules": {"exclude_modules": r"single_.*"},
    "ranks and alphas per module": {
        "rank_pattern": {r"^transformer_blocks\.0\.attn\.to_q": 2},
        "alpha_pattern": {"attn.to_v": 3},
    },
    "rslora": {"use_rslora": True},
    "rslora with ranks and alphas": {
        "use_rslora": True,
        "rank_pattern": {"attn.to_q": 2},
        "alpha_pattern": {r"single_transformer_blocks\.\d+\.attn\.to_v": 3},
    },
}


# what others of them hold as well
SLOW = ("regex", "excluded modules", "rslora")


@pytest.mark.parametrize(
    "lora", [pytest.param(lora, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, lora in LORAS.items()]
)
def test_adapter_draws_the_same_pictures_in_every_loader(tmp_path, lora):
    trained = trained_pipeline(**lora)
    expected, base = picture(trained), picture(build_pipeline(0))
    assert np.abs(expected - base).max() > 1e-3
    save_adapter(trained.transformer, tmp_path / "ARR", FluxPipeline)

    by_pipeline = build_pipeline(0)
    by_pipeline.load_lora_weights(tmp_path, subfolder="ARR", weight_name="pytorch_lora_weights.safetensors")
    by_transformer = build_pipeline(0)
    by_transformer.transformer.load_lora_adapter(
        tmp_path, subfolder="ARR", weight_name="pytorch_lora_weights.safetensors"
    )
    by_peft = build_pipeline(0)
    by_peft.transformer = PeftModel.from_pretrained(by_peft.transformer, tmp_path, subfolder="ARR")
    others = [build_pipeline(0) for _ in range(4)]
    file = tmp_path / "ARR" / "pytorch_lora_weights.safetensors"
    loaders.comfyui(others[0].transformer, file)
    loaders.vllm_omni_file(others[1].transformer, file)
    loaders.sglang(others[2].transformer, tmp_path / "ARR")
    if "rank_pattern" in lora:  # it reads one rank and one alpha from PEFT's folder, as docs/source/loaders.md says
        del others[3]
    else:
        loaders.vllm_omni_folder(others[3].transformer, tmp_path / "ARR")
    for loaded in (by_pipeline, by_transformer, by_peft, *others):
        np.testing.assert_allclose(picture(loaded), expected, atol=1e-5)


def test_pipeline_finds_the_weights_without_a_weight_name_in_a_local_folder(tmp_path):
    trained = trained_pipeline()
    save_adapter(trained.transformer, tmp_path / "ARR", FluxPipeline)
    loaded = build_pipeline(0)
    loaded.load_lora_weights(tmp_path, subfolder="ARR")
    np.testing.assert_allclose(picture(loaded), picture(trained), atol=1e-5)


def test_folder_holds_the_three_files_and_nothing_of_ours_or_pefts(tmp_path):
    model = trained_pipeline().transformer
    (tmp_path / "README.md").write_text("mine")
    save_adapter(model, tmp_path, FluxPipeline)
    assert {p.name for p in tmp_path.iterdir()} == {*ADAPTER_FILES, "README.md"}
    assert (tmp_path / "README.md").read_text() == "mine"


def test_metadata_is_one_key_with_rank_alpha_and_targets(tmp_path):
    save_adapter(trained_pipeline().transformer, tmp_path, FluxPipeline)
    with safe_open(tmp_path / "pytorch_lora_weights.safetensors", "pt") as file:
        header = file.metadata()
    assert list(header) == ["lora_adapter_metadata"]
    metadata = json.loads(header["lora_adapter_metadata"])
    assert set(metadata) == {"transformer.r", "transformer.lora_alpha", "transformer.target_modules"}
    assert (metadata["transformer.r"], metadata["transformer.lora_alpha"]) == (4, 4)


def test_sglang_is_told_that_the_alpha_beside_the_file_is_not_its_own(tmp_path):
    # it prefers diffusers' file, and would take the scale twice where the header were silent
    save_adapter(trained_pipeline().transformer, tmp_path, FluxPipeline)
    with pytest.raises(ValueError, match="conflicts"):
        loaders.sglang(build_pipeline(0).transformer, tmp_path, "pytorch_lora_weights.safetensors")


def test_second_save_replaces_the_first_and_equal_weights_give_equal_bytes(tmp_path):
    model = trained_pipeline().transformer
    save_adapter(model, tmp_path / "a", FluxPipeline)
    save_adapter(model, tmp_path / "b", FluxPipeline)
    save_adapter(model, tmp_path / "b", FluxPipeline)
    for name in ADAPTER_FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_bytes_do_not_depend_on_the_hash_seed_of_the_process(tmp_path):
    script = """
import sys, torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from peft import LoraConfig, get_peft_model
from arr_trl.release import save_adapter
torch.manual_seed(0)
sizes = {"attention_head_dim": 16, "joint_attention_dim": 8, "pooled_projection_dim": 8, "axes_dims_rope": (4, 6, 6)}
network = FluxTransformer2DModel(in_channels=4, num_layers=1, num_single_layers=1, num_attention_heads=1, **sizes)
targets = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.add_q_proj", "ff.net.2"]
save_adapter(get_peft_model(network, LoraConfig(r=2, target_modules=targets)), folder, FluxPipeline)
"""
    exec(script, {"folder": tmp_path / "here"})
    other = [sys.executable, "-c", f"folder = {str(tmp_path / 'other')!r}\n{script}"]
    subprocess.run(other, check=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    for name in ADAPTER_FILES:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_crash_during_the_save_leaves_the_previous_adapter_whole(tmp_path, monkeypatch):
    trained = trained_pipeline()
    save_adapter(trained.transformer, tmp_path, FluxPipeline)
    before = {name: (tmp_path / name).read_bytes() for name in ADAPTER_FILES}
    for parameter in trained.transformer.parameters():
        parameter.data += 1

    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FluxPipeline, "save_lora_weights", no_space)
    with pytest.raises(OSError, match="No space left"):
        save_adapter(trained.transformer, tmp_path, FluxPipeline)
    assert {name: (tmp_path / name).read_bytes() for name in ADAPTER_FILES} == before
    assert {p.name for p in tmp_path.iterdir()} == set(ADAPTER_FILES)


def test_named_adapter_is_written_from_a_gathered_state_dict(tmp_path):
    trained = trained_pipeline(adapter_name="rpo")
    gathered = {name: tensor.clone() for name, tensor in trained.transformer.state_dict().items()}
    expected = picture(trained)
    for parameter in trained.transformer.parameters():
        parameter.data.zero_()
    save_adapter(trained.transformer, tmp_path, FluxPipeline, adapter_name="rpo", state_dict=gathered)
    loaded = build_pipeline(0)
    loaded.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    np.testing.assert_allclose(picture(loaded), expected, atol=1e-5)


def test_path_of_a_local_base_does_not_enter_the_configuration(tmp_path):
    model = trained_pipeline().transformer
    model.peft_config["default"].base_model_name_or_path = str(tmp_path)
    save_adapter(model, tmp_path / "adapter", FluxPipeline)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == tmp_path.name


def test_public_name_is_a_hub_id_or_the_last_part_of_a_local_path(tmp_path, monkeypatch):
    assert public_name("black-forest-labs/FLUX.1-dev") == ("black-forest-labs/FLUX.1-dev", False)
    assert public_name(tmp_path) == (tmp_path.name, True)
    assert public_name("/somewhere/else/my base") == ("my base", True)
    (tmp_path / "runs" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert public_name("runs/base") == ("base", True)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (IA3Config(target_modules=["attn.to_q"]), "pass a `peft.LoraConfig`"),
        (LoraConfig(modules_to_save=["proj_out"]), "modules_to_save"),
        (LoraConfig(bias="all"), "bias='all'"),
        (LoraConfig(use_dora=True), "use_dora=True .* needs weights beside the two matrices"),
        (LoraConfig(lora_bias=True), "lora_bias=True .* needs weights beside the two matrices"),
        (LoraConfig(init_lora_weights="pissa"), "changes the base model's weights"),
    ],
)
def test_adapter_that_diffusers_could_not_load_is_refused(config, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_lora_config(config)
