"""Adapters of earlier versions, whose scale stood in the header alone, and what mends them."""

import json

import loaders
import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from peft import PeftModel
from safetensors.torch import load_file, save_file
from test_adapter import picture, trained_pipeline

from arr_trl.cli.main import main
from arr_trl.release import (
    ADAPTER_FILES,
    AdapterCard,
    convert_release,
    load_weights,
    read_adapter,
    save_adapter,
    weak_adapters,
    write_model_card,
)
from arr_trl.tiny_scenes.pipeline import build_pipeline


PATTERNS = {
    "use_rslora": True,
    "rank_pattern": {"attn.to_q": 2},
    "alpha_pattern": {r"^transformer_blocks\.0\.attn\.to_v": 3},
}


def write_old(model, folder):
    """The three files as version 0.1 wrote them: PEFT's weights under diffusers' names, all else in the header."""
    save_adapter(model, folder, FluxPipeline)
    weights = load_file(folder / ADAPTER_FILES[1])
    config, header = model.peft_config["default"], {}
    layers = {f"transformer.{name.removeprefix('base_model.model.')}": weight for name, weight in weights.items()}
    for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora"):
        if getattr(config, name):
            header[f"transformer.{name}"] = getattr(config, name)
    header["transformer.target_modules"] = sorted(
        {name.removeprefix("transformer.").split(".lora_")[0] for name in layers}
    )
    save_file(layers, folder / ADAPTER_FILES[2], metadata={"lora_adapter_metadata": json.dumps(header)})


def by_comfyui(folder):
    pipeline = build_pipeline(0)
    loaders.comfyui(pipeline.transformer, folder / ADAPTER_FILES[2])
    return picture(pipeline)


def stock(folder):
    pipeline = build_pipeline(0)
    pipeline.load_lora_weights(folder, weight_name=ADAPTER_FILES[2])
    return picture(pipeline)


@pytest.mark.parametrize("lora", [{}, pytest.param(PATTERNS, marks=pytest.mark.slow)], ids=["default", "patterns"])
def test_converted_adapter_draws_the_same_pictures_everywhere(tmp_path, lora, capsys):
    trained = trained_pipeline(**lora)
    expected = picture(trained)
    write_old(trained.transformer, tmp_path / "ARR")
    write_old(trained.transformer, tmp_path / "checkpoint-3")
    np.testing.assert_allclose(stock(tmp_path / "ARR"), expected, atol=1e-5)
    assert np.abs(by_comfyui(tmp_path / "ARR") - expected).max() > 1e-3  # half as strong
    before = {name: (tmp_path / "ARR" / name).read_bytes() for name in ADAPTER_FILES}
    checkpoint = (tmp_path / "checkpoint-3" / ADAPTER_FILES[2]).read_bytes()

    assert weak_adapters(tmp_path) == [tmp_path / "ARR"]
    assert main(["release", "convert", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Converted {tmp_path / 'ARR'}.\n"
    for drawn in (stock(tmp_path / "ARR"), by_comfyui(tmp_path / "ARR")):
        np.testing.assert_allclose(drawn, expected, atol=1e-5)
    after = {name: (tmp_path / "ARR" / name).read_bytes() for name in ADAPTER_FILES}
    assert [name for name in ADAPTER_FILES if after[name] != before[name]] == [ADAPTER_FILES[2]]
    assert (tmp_path / "checkpoint-3" / ADAPTER_FILES[2]).read_bytes() == checkpoint

    assert main(["release", "convert", str(tmp_path / "ARR")]) == 0
    assert "Nothing to convert" in capsys.readouterr().out
    assert (tmp_path / "ARR" / ADAPTER_FILES[2]).read_bytes() == after[ADAPTER_FILES[2]]
    # as a new one is written
    save_adapter(trained.transformer, tmp_path / "new", FluxPipeline)
    assert (tmp_path / "new" / ADAPTER_FILES[2]).read_bytes() == after[ADAPTER_FILES[2]]


@pytest.mark.parametrize("lora", [pytest.param({}, marks=pytest.mark.slow), PATTERNS], ids=["default", "patterns"])
@pytest.mark.parametrize("write", [write_old, lambda model, folder: save_adapter(model, folder, FluxPipeline)])
def test_run_goes_on_from_the_file_of_either_version_as_it_was_trained(tmp_path, write, lora):
    trained = trained_pipeline(**lora)
    write(trained.transformer, tmp_path)
    config, weights = read_adapter(str(tmp_path / ADAPTER_FILES[2]), FluxPipeline)
    fresh = build_pipeline(0)
    fresh.transformer = PeftModel(fresh.transformer, config)
    load_weights(fresh.transformer, weights, "default", str(tmp_path))
    np.testing.assert_allclose(picture(fresh), picture(trained), atol=1e-5)


def test_what_cannot_be_converted_is_left_as_it_is(tmp_path):
    with pytest.raises(ValueError, match="holds no adapter"):
        convert_release(tmp_path)
    trained = trained_pipeline()
    write_old(trained.transformer, tmp_path / "a")
    header = {"transformer.r": 4, "transformer.lora_alpha": 8, "transformer.use_dora": True}
    (tmp_path / "b").mkdir()
    save_file(
        {"transformer.x.lora_A.weight": torch.zeros(4, 2)},
        tmp_path / "b" / ADAPTER_FILES[2],
        metadata={"lora_adapter_metadata": json.dumps(header)},
    )
    before = (tmp_path / "a" / ADAPTER_FILES[2]).read_bytes()
    with pytest.raises(ValueError, match=r"use_dora=True, which ComfyUI leaves out .* Nothing was converted"):
        convert_release(tmp_path)
    assert (tmp_path / "a" / ADAPTER_FILES[2]).read_bytes() == before
    (tmp_path / "b" / ADAPTER_FILES[2]).write_bytes(b"broken")
    with pytest.raises(ValueError, match="cannot be read"):
        weak_adapters(tmp_path)


def test_push_offers_to_convert_and_does_it_on_request(tmp_path, capsys):
    trained = trained_pipeline()
    write_old(trained.transformer, tmp_path / "ARR")
    card = AdapterCard("ARR", "user/base", "FluxPipeline", "a red circle", 4, 8, ["attn.to_q", "attn.to_v"])
    write_model_card(tmp_path, card)
    push = ["push", str(tmp_path), "--repo_id", "user/x"]
    assert main([*push, "--dry_run"]) == 0
    assert f"{tmp_path / 'ARR'} was written by an earlier version" in capsys.readouterr().err
    assert main([*push, "--dry_run", "--convert"]) == 0  # a dry run changes nothing
    assert weak_adapters(tmp_path)
    capsys.readouterr()
    assert main([*push, "--convert"]) == 1  # there is no Hub in tests
    assert f"Converted {tmp_path / 'ARR'}." in capsys.readouterr().out
    assert not weak_adapters(tmp_path)
    np.testing.assert_allclose(by_comfyui(tmp_path / "ARR"), picture(trained), atol=1e-5)
