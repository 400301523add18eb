"""LoRA files that others write: each module gets the strength that stock loading gives it, or the reason why not is said."""

import pytest
import torch
from diffusers import FluxPipeline
from peft import KasaConfig, LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from tiny_pipelines import (
    build_flux,
    build_flux2,
    build_flux_kontext,
    build_qwen_image,
    build_sd3,
    build_z_image,
)

from arr_trl.policies.adapter_files import check_lora_config, load_weights, read_adapter


BUILDERS = [build_flux, build_flux_kontext, build_flux2, build_qwen_image, build_sd3, build_z_image]


def lora_file(path, pipeline, endings, alpha_of, rank_of=lambda name: 4, extra=lambda name, module: {}):
    """A file with weights for the modules whose name ends with one of `endings`, as diffusers names them, alpha beside."""
    generator, weights, prefix = torch.Generator().manual_seed(0), {}, pipeline.transformer_name
    for name, module in pipeline.transformer.named_modules():
        if not isinstance(module, torch.nn.Linear) or not name.endswith(tuple(endings)):
            continue
        rank = rank_of(name)
        weights[f"{prefix}.{name}.lora_A.weight"] = torch.randn(rank, module.in_features, generator=generator) * 0.1
        weights[f"{prefix}.{name}.lora_B.weight"] = torch.randn(module.out_features, rank, generator=generator) * 0.1
        if alpha_of is not None:
            weights[f"{prefix}.{name}.alpha"] = torch.tensor(float(alpha_of(name)))
        weights |= {f"{prefix}.{name}.{key}": value for key, value in extra(name, module).items()}
    assert weights
    save_file(weights, path)
    return str(path)


def loaded(path, pipeline):
    config, weights = read_adapter(path, type(pipeline))
    model = get_peft_model(pipeline.transformer, config)
    load_weights(model, weights, "default", path)
    return pipeline.transformer


def strengths(transformer):
    """What is added to each layer's own weight."""
    return {
        name: module.get_delta_weight(module.active_adapters[0])
        for name, module in transformer.named_modules()
        if isinstance(module, LoraLayer)
    }


def in_file(path, prefix="transformer."):
    weights, wanted = load_file(path), {}
    for key in weights:
        if key.endswith(".lora_A.weight"):
            module = key.removesuffix(".lora_A.weight")
            down, up = weights[key], weights[f"{module}.lora_B.weight"]
            alpha = weights.get(f"{module}.alpha", torch.tensor(float(len(down))))
            wanted[module.removeprefix(prefix)] = up @ down * (alpha / len(down))
    return wanted


@pytest.mark.parametrize("build", BUILDERS)
def test_every_module_has_the_strength_that_the_file_says(build, tmp_path):
    pipeline = build()
    # every linear layer, so that names of top-level layers end those of others; alpha and rank differ by place
    path = lora_file(
        tmp_path / "style.safetensors", pipeline, [""], lambda name: 2 + len(name) % 5, lambda name: 2 + len(name) % 3
    )
    found, wanted = strengths(loaded(path, pipeline)), in_file(path, f"{pipeline.transformer_name}.")
    assert found.keys() == wanted.keys()
    for name, strength in wanted.items():
        torch.testing.assert_close(found[name], strength, msg=lambda text, name=name: f"{name}: {text}")


def test_top_level_layer_lends_its_alpha_to_no_block(tmp_path):
    path = lora_file(
        tmp_path / "a.safetensors",
        build_flux(),
        ["proj_out", "attn.to_q"],
        lambda name: 8 if name == "proj_out" else 4,
    )
    ours, stock = build_flux(), build_flux()
    stock.load_lora_weights(path)
    found, expected = strengths(loaded(path, ours)), strengths(stock.transformer)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name]) for name in found)


def test_file_with_the_top_level_layer_alone_is_taken_for_it_alone(tmp_path):
    path = lora_file(tmp_path / "a.safetensors", build_flux(), ["norm_out.linear", "proj_out"], lambda name: 2)
    blocks = {name for name in in_file(path) if "blocks" in name}
    raw = {k: v for k, v in load_file(path).items() if "blocks" not in k}
    assert blocks
    save_file(raw, path)
    assert strengths(loaded(path, build_flux())).keys() == {"norm_out.linear", "proj_out"}


def dora(name, module):
    return {"lora_magnitude_vector": module.weight.norm(dim=1)}


def bias(name, module):
    return {"lora_B.bias": torch.ones(module.out_features)}


@pytest.mark.parametrize(("extra", "field"), [(dora, "use_dora"), (bias, "lora_bias")])
def test_dora_and_bias_are_seen_where_no_metadata_says_so(tmp_path, extra, field):
    path = lora_file(tmp_path / "a.safetensors", build_flux(), ["attn.to_q"], None, extra=extra)
    config, weights = read_adapter(path, FluxPipeline)
    assert getattr(config, field)
    model = get_peft_model(build_flux().transformer, config)
    load_weights(model, weights, "default", path)
    partly = lora_file(
        tmp_path / "b.safetensors", build_flux(), ["attn.to_q"], None,
        extra=lambda name, module: extra(name, module) if "single" in name else {},
    )  # fmt: skip
    with pytest.raises(ValueError, match="PEFT knows all or none"):
        read_adapter(partly, FluxPipeline)


def test_old_names_of_the_two_matrices_are_read(tmp_path):
    path = lora_file(tmp_path / "a.safetensors", build_flux(), ["attn.to_q"], None)
    weights = load_file(path)
    old = {k.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up."): v for k, v in weights.items()}
    save_file(old, tmp_path / "old.safetensors")
    found, wanted = (strengths(loaded(str(tmp_path / f), build_flux())) for f in ("old.safetensors", "a.safetensors"))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_what_cannot_be_done_justice_is_refused_with_the_reason(tmp_path):
    weight = torch.zeros(2, 2)
    for key, sentence in (
        ("base_model.model.proj_out.lora_A.weight", "PEFT's weights without its adapter_config.json"),
        ("lora_unet_double_blocks_0_img_attn_proj.dora_scale", "DoRA as kohya's scripts write it"),
    ):
        save_file({key: weight}, tmp_path / "x.safetensors")
        with pytest.raises(ValueError, match=sentence):
            read_adapter(str(tmp_path / "x.safetensors"), FluxPipeline)
    (tmp_path / "x.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"is no \.safetensors file"):
        read_adapter(str(tmp_path / "x.bin"), FluxPipeline)


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"kasa_config": KasaConfig()}, "`kasa_config=.* cannot hold; leave it at None"),
    ({"alora_invocation_tokens": [1]}, "`alora_invocation_tokens="),
    ({"target_parameters": ["w"]}, "`target_parameters="),
    ({"layer_replication": [[0, 1]]}, "`layer_replication="),
    ({"modules_to_save": ["proj_out"]}, "`modules_to_save="),
    ({"lora_alpha": 0}, "lora_alpha=0 scales an adapter to nothing"),
    ({"alpha_pattern": {"x": 0}}, "alpha_pattern=.* scales an adapter to nothing"),
    ({"r": 0}, "r=0 has to be at least 1"),
    ({"use_dora": True}, "use_dora=True in `peft_config` needs weights beside"),
])  # fmt: skip
def test_settings_that_a_released_file_cannot_hold_are_refused(settings, sentence):
    try:
        config = LoraConfig(target_modules=["to_q"], **settings)
    except ValueError:
        pytest.skip("PEFT refuses it itself")
    with pytest.raises(ValueError, match=sentence):
        check_lora_config(config)


def test_settings_that_a_file_holds_are_taken():
    for settings in ({"use_rslora": True}, {"rank_pattern": {"a": 2}}, {"exclude_modules": ["b"]}):
        check_lora_config(LoraConfig(target_modules=["to_q"], **settings))
