import shutil
import warnings

import pytest
import torch
from diffusers import FluxPipeline
from peft import LoraConfig, get_peft_model

from arr_trl import FluxPolicy
from arr_trl.evaluation import AdapterSource, load_adapters, parse_adapters
from arr_trl.evaluation.adapters import active, weights_digest
from arr_trl.release import save_adapter, save_transformer
from arr_trl.tiny_scenes import build_pipeline


def trained_adapter(folder, seed=0, r=4, targets=("to_q", "to_v")):
    """A PEFT model whose adapter does something, and its files in `folder`."""
    pipeline = build_pipeline(seed=0)
    model = get_peft_model(pipeline.transformer, LoraConfig(r=r, lora_alpha=2 * r, target_modules=list(targets)))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    save_adapter(model, folder, type(pipeline))
    return FluxPolicy(pipeline, max_sequence_length=12), model


def velocity(policy, model):
    conditioning = policy.encode([{"prompt": "a red circle left of a blue square"}], 32, 32)
    latents = torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return policy.velocity(model, latents, torch.tensor([0.5]), conditioning, 3.5)


def test_each_adapter_gives_what_was_trained_and_none_gives_the_base(tmp_path):
    trained = {name: velocity(*trained_adapter(tmp_path / name, seed)) for seed, name in enumerate(("one", "two.5"))}
    policy = FluxPolicy(build_pipeline(seed=0), max_sequence_length=12)
    base = velocity(policy, policy.pipeline.transformer)
    model = load_adapters(policy.pipeline.transformer, parse_adapters([str(tmp_path / name) for name in trained]))
    for name in ("one", None, "two.5", "one"):
        with active(model, name):
            assert torch.equal(velocity(policy, model), base if name is None else trained[name])


def test_weights_have_the_precision_of_the_base_as_stock_loading_gives_them(tmp_path):
    trained_adapter(tmp_path / "one")
    transformer = build_pipeline(seed=0).transformer.to(torch.bfloat16)
    model = load_adapters(transformer, parse_adapters([str(tmp_path / "one")]))
    assert {p.dtype for name, p in model.named_parameters() if "lora_" in name} == {torch.bfloat16}


def test_lora_file_and_folder_of_diffusers_alone_compute_what_the_whole_release_computes(tmp_path):
    policy, trained = trained_adapter(tmp_path / "release")
    expected = velocity(policy, trained)
    (tmp_path / "diffusers").mkdir()
    file = tmp_path / "release" / "pytorch_lora_weights.safetensors"
    for copy in (tmp_path / "diffusers" / file.name, tmp_path / "portraits.safetensors"):
        shutil.copy(file, copy)
    places = [tmp_path / "release", tmp_path / "diffusers", tmp_path / "portraits.safetensors"]
    sources = parse_adapters([str(place) for place in places])
    assert [source.name for source in sources] == ["release", "diffusers", "portraits"]
    policy = FluxPolicy(build_pipeline(seed=0), max_sequence_length=12)
    model = load_adapters(policy.pipeline.transformer, sources, FluxPipeline)
    for source in sources:
        with active(model, source.name):
            torch.testing.assert_close(velocity(policy, model), expected, atol=1e-5, rtol=0)
    model = load_adapters(build_pipeline(seed=0).transformer.to(torch.bfloat16), sources, FluxPipeline)
    assert {p.dtype for name, p in model.named_parameters() if "lora_" in name} == {torch.bfloat16}


def test_files_of_a_release_are_named_after_its_folder(tmp_path):
    trained_adapter(tmp_path / "ARR")
    folder = str((tmp_path / "ARR").resolve())
    assert parse_adapters([f"{folder}/adapter_model.safetensors"]) == [AdapterSource("ARR", folder)]
    file = f"{folder}/pytorch_lora_weights.safetensors"
    assert parse_adapters([file]) == [AdapterSource("ARR", file)]
    (hub,) = parse_adapters(["user/repo/styles/ink.safetensors"])
    assert hub == AdapterSource("ink", "user/repo", "styles/ink.safetensors")
    assert hub.where == "user/repo/styles/ink.safetensors"


def test_adapter_named_like_a_module_of_the_base_is_loaded(tmp_path):
    policy, trained = trained_adapter(tmp_path / "attn")
    expected = velocity(policy, trained)
    policy = FluxPolicy(build_pipeline(seed=0), max_sequence_length=12)
    model = load_adapters(policy.pipeline.transformer, parse_adapters([str(tmp_path / "attn")]))
    assert torch.equal(velocity(policy, model), expected)


def test_digest_changes_with_the_weights(tmp_path):
    digests = set()
    for seed in (0, 1):
        trained_adapter(tmp_path / "same", seed)
        model = load_adapters(build_pipeline(seed=0).transformer, parse_adapters([str(tmp_path / "same")]))
        digests.add(weights_digest(model, "same"))
    assert len(digests) == 2


def test_adapter_of_another_network_is_refused_though_peft_only_warns(tmp_path):
    trained_adapter(tmp_path / "one", targets=("to_q",))
    pipeline = build_pipeline(seed=0)
    pipeline.transformer.transformer_blocks = pipeline.transformer.transformer_blocks[:1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            ValueError, match="does not fit the base: 0 of its weights are missing and 2 belong nowhere"
        ):
            load_adapters(pipeline.transformer, parse_adapters([str(tmp_path / "one")]))


def test_names_are_the_folders_and_longer_where_they_would_be_the_same(tmp_path):
    for place in ("run1/ARR", "run2/ARR", "run2/base", "run2/other"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "adapter_config.json").write_text("{}")
    places = ["run1/ARR", "run2/ARR", "run2/base", "run2/other"]
    names = [source.name for source in parse_adapters([str(tmp_path / place) for place in places])]
    assert names == ["run1/ARR", "run2/ARR", "run2/base", "other"]


def test_hub_references_have_a_repository_and_a_subfolder():
    assert parse_adapters(["user/repo/ARR-FLUX.1-dev"]) == [
        AdapterSource("ARR-FLUX.1-dev", "user/repo", "ARR-FLUX.1-dev")
    ]
    assert parse_adapters(["user/repo"]) == [AdapterSource("repo", "user/repo")]


def test_folder_above_adapters_is_told_what_is_in_it(tmp_path):
    trained_adapter(tmp_path / "run" / "ARR")
    with pytest.raises(FileNotFoundError, match=r"holds no adapter_config.json; there are adapters in .*run/ARR"):
        parse_adapters([str(tmp_path / "run")])


def test_missing_folder_and_repeated_adapter_are_one_sentence():
    with pytest.raises(ValueError, match=r"There is no adapter at \./nowhere"):
        parse_adapters(["./nowhere"])
    with pytest.raises(ValueError, match="given twice"):
        parse_adapters(["user/a", "user/a"])


def test_full_fine_tune_draws_beside_adapters_of_the_same_base(tmp_path):
    adapter = velocity(*trained_adapter(tmp_path / "adapter"))
    pipeline = build_pipeline(seed=0)
    with torch.no_grad():
        for weight in pipeline.transformer.parameters():
            weight.add_(0.01)
    save_transformer(pipeline.transformer, tmp_path / "full" / "transformer", pipeline.transformer.state_dict())
    full = velocity(FluxPolicy(pipeline, max_sequence_length=12), pipeline.transformer)
    policy = FluxPolicy(build_pipeline(seed=0), max_sequence_length=12)
    base = velocity(policy, policy.pipeline.transformer)
    sources = parse_adapters([str(tmp_path / name) for name in ("adapter", "full")])
    model = load_adapters(policy.pipeline.transformer, sources)
    for name, expected in (("full", full), ("adapter", adapter), (None, base), ("full", full)):
        with active(model, name):
            assert torch.equal(velocity(policy, model), expected), name
    assert weights_digest(model, "full") != weights_digest(model, "adapter")


def test_full_fine_tune_of_another_base_is_refused(tmp_path):
    base = build_pipeline(seed=0).transformer
    other = type(base).from_config({**base.config, "num_single_layers": 3})
    save_transformer(other, tmp_path / "full" / "transformer", other.state_dict())
    with pytest.raises(ValueError, match="is no fine-tune of this base"):
        load_adapters(base, parse_adapters([str(tmp_path / "full")]))
