"""Adapters that others wrote: what is read is what they computed."""

import copy
import json
import re

import pytest
import torch
from diffusers import FluxPipeline
from hub_client import ClientError, HubClient
from hub_server import HubServer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from arr_trl.policies import FluxPolicy
from arr_trl.release import load_weights, read_adapter, save_adapter


def trained(pipeline, **config):
    model = get_peft_model(
        pipeline.transformer,
        LoraConfig(**{"r": 2, "lora_alpha": 6, "target_modules": ["attn.to_q", "ff.net.2"], **config}),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.1, generator=generator)
    return model


def output(pipeline, model):
    policy = FluxPolicy(pipeline, max_sequence_length=12)
    noise = policy.initial_noise(1, 32, 32, torch.Generator().manual_seed(0))
    conditioning = policy.encode([{"prompt": "a red circle"}], 32, 32)
    return policy.velocity(model, noise, torch.tensor([0.7]), conditioning, 3.5).detach()


def read_into(pipeline, path):
    config, weights = read_adapter(str(path), FluxPipeline)
    assert config.inference_mode is False
    model = get_peft_model(pipeline.transformer, config)
    load_weights(model, weights, "default", str(path))
    return model


@pytest.mark.parametrize("name", ["", "adapter_model.safetensors", "pytorch_lora_weights.safetensors"])
@pytest.mark.parametrize("config", [{}, {"rank_pattern": {"ff.net.2": 3}, "alpha_pattern": {"attn.to_q": 1}, "use_rslora": True}])  # fmt: skip
def test_every_file_of_a_release_gives_the_model_that_was_saved(flux_pipeline, tmp_path, name, config):
    fresh = copy.deepcopy(flux_pipeline)
    model = trained(flux_pipeline, **config)
    save_adapter(model, tmp_path / "adapter", FluxPipeline)
    base = output(fresh, fresh.transformer)
    found = output(fresh, read_into(fresh, tmp_path / "adapter" / name))
    torch.testing.assert_close(found, output(flux_pipeline, model), atol=1e-6, rtol=0)
    assert (found - base).abs().max() > 1e-2


def test_diffusers_file_without_metadata_has_alpha_equal_to_its_rank(flux_pipeline, tmp_path):
    stock, ours, source = (copy.deepcopy(flux_pipeline) for _ in range(3))
    save_adapter(trained(source), tmp_path, FluxPipeline)
    weights = load_file(tmp_path / "pytorch_lora_weights.safetensors")
    save_file(weights, tmp_path / "plain.safetensors")
    config, _ = read_adapter(str(tmp_path / "plain.safetensors"), FluxPipeline)
    assert (config.r, config.lora_alpha) == (2, 2.0)
    # as stock diffusers takes it
    stock.load_lora_weights(str(tmp_path), weight_name="plain.safetensors")
    torch.testing.assert_close(
        output(ours, read_into(ours, tmp_path / "plain.safetensors")),
        output(stock, stock.transformer),
        atol=1e-6,
        rtol=0,
    )
    module = next(iter(weights)).split(".lora_")[0]
    save_file({**weights, f"{module}.alpha": torch.tensor(8.0)}, tmp_path / "alpha.safetensors")
    config, _ = read_adapter(str(tmp_path / "alpha.safetensors"), FluxPipeline)
    assert config.alpha_pattern == {"^" + re.escape(module.removeprefix("transformer.")): 8.0}


def test_what_cannot_be_gone_on_from_is_told(flux_pipeline, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no adapter at no/such/adapter, .*check `adapter_path`"):
        read_adapter("no/such/adapter", FluxPipeline)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds neither adapter_config\.json nor"):
        read_adapter(str(tmp_path / "empty"), FluxPipeline)
    (tmp_path / "broken.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=r"broken\.safetensors cannot be read"):
        read_adapter(str(tmp_path / "broken.safetensors"), FluxPipeline)
    save_file({"text_encoder.a.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match="weights such as text_encoder"):
        read_adapter(str(tmp_path / "text.safetensors"), FluxPipeline)
    save_adapter(trained(flux_pipeline), tmp_path / "adapter", FluxPipeline)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    with pytest.raises(ValueError, match="IA3Config"):
        read_adapter(str(tmp_path / "adapter"), FluxPipeline)


def test_adapter_of_another_base_is_told(flux_pipeline, tmp_path):
    save_adapter(trained(copy.deepcopy(flux_pipeline)), tmp_path, FluxPipeline)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    save_file({**weights, name: torch.zeros(2, 7)}, file)
    with pytest.raises(ValueError, match="is not for this base: size mismatch"):
        read_into(copy.deepcopy(flux_pipeline), tmp_path)
    save_file({key: weight for key, weight in weights.items() if key != name}, file)
    with pytest.raises(ValueError, match="is not for this base: 1 of its modules have no weights"):
        read_into(copy.deepcopy(flux_pipeline), tmp_path)


def test_hub_repository_with_a_subfolder_is_read(flux_pipeline, tmp_path, monkeypatch):
    save_adapter(trained(flux_pipeline), tmp_path / "adapter", FluxPipeline)
    files = {file.name: file.read_bytes() for file in (tmp_path / "adapter").iterdir()}
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # the Hub is on loopback
    code = """
from diffusers import FluxPipeline
from arr_trl.release import read_adapter
config, weights = read_adapter(path, FluxPipeline)
result = [config.r, len(weights)]
"""
    with HubServer() as hub:
        hub.add("user/peft", {f"ARR-one/{name}": data for name, data in files.items() if "pytorch" not in name})
        hub.add("user/lora", {f"ARR-one/{name}": data for name, data in files.items() if "pytorch" in name})
        client = HubClient(hub, tmp_path)
        expected = [2, len(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))]
        for path in ("user/peft/ARR-one", "user/lora/ARR-one", "user/lora/ARR-one/pytorch_lora_weights.safetensors"):
            assert client.run(code, path=path) == expected
        for path in ("user/peft/ARR-two", "user/nothing/ARR-one", "user/peft"):
            with pytest.raises(ClientError, match=f"There is no adapter at {path}, neither here nor on the Hub"):
                client.run(code, path=path)
        client.close()
