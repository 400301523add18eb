"""Adapters of every family: what is trained by default, and that everybody loads it as it was trained."""

import copy
from operator import attrgetter

import loaders
import pytest
import torch
from diffusers import (
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    Krea2Transformer2DModel,
    LongCatImageTransformer2DModel,
    Lumina2Transformer2DModel,
    OvisImageTransformer2DModel,
    QwenImage21Transformer2DModel,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from oracle import picture
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tiny_newer_pipelines import (
    build_flux_fill,
    build_krea2,
    build_longcat_image,
    build_lumina2,
    build_ovis_image,
    build_qwen_image_2_1,
    build_z_image_omni,
)
from tiny_pipelines import (
    build_flux,
    build_flux2,
    build_flux_kontext,
    build_qwen_image,
    build_sd3,
    build_z_image,
)

from arr_trl.policies import (
    Flux2KleinPolicy,
    Flux2Policy,
    FluxPolicy,
    Krea2Policy,
    LongCatImagePolicy,
    Lumina2Policy,
    OvisImagePolicy,
    QwenImage21Policy,
    QwenImageEditPolicy,
    QwenImagePolicy,
    StableDiffusion3Policy,
    ZImageOmniPolicy,
    ZImagePolicy,
    policy_for,
)
from arr_trl.release.adapter import DIFFUSERS_WEIGHTS_FILE, PEFT_WEIGHTS_FILE, loading_call, save_adapter


@pytest.mark.parametrize(("policy_class", "build", "rank", "modules", "parameters"), [
    # the two published adapters
    (FluxPolicy, lambda: FluxTransformer2DModel(guidance_embeds=True), 16, 342, 44_826_624),
    (QwenImageEditPolicy, QwenImageTransformer2DModel, 32, 480, 94_371_840),
    (QwenImagePolicy, QwenImageTransformer2DModel, 32, 480, 94_371_840),
    # attention alone: 24 blocks of SD3.5-medium, the last without an output of the text
    (StableDiffusion3Policy, lambda: SD3Transformer2DModel(num_layers=24, num_attention_heads=24), 16, 191, None),
    (Flux2Policy, Flux2Transformer2DModel, 16, 8 * 12 + 48 * 1, None),
    (Flux2KleinPolicy, lambda: Flux2Transformer2DModel(num_layers=5, num_single_layers=20), 16, 5 * 12 + 20, None),
    (ZImagePolicy, ZImageTransformer2DModel, 16, 4 * (30 + 2 + 2), None),
    (ZImageOmniPolicy, lambda: ZImageTransformer2DModel(siglip_feat_dim=1152), 16, 4 * (30 + 2 + 2 + 2), None),
    (Krea2Policy, Krea2Transformer2DModel, 16, 4 * (28 + 2 + 2), None),
    (QwenImage21Policy, QwenImage21Transformer2DModel, 16, 4 * 32, None),
    (LongCatImagePolicy, LongCatImageTransformer2DModel, 16, 19 * 8 + 38 * 3, None),
    (OvisImagePolicy, OvisImageTransformer2DModel, 16, 6 * 8 + 27 * 3, None),
    (Lumina2Policy, Lumina2Transformer2DModel, 16, 4 * (26 + 2 + 2), None),
])  # fmt: skip
def test_default_targets_of_the_real_configuration(policy_class, build, rank, modules, parameters):
    with torch.device("meta"):
        adapter = get_peft_model(build(), LoraConfig(r=rank, target_modules=list(policy_class.target_modules)))
    weights = [p for name, p in adapter.named_parameters() if "lora_" in name]
    assert len(weights) == 2 * modules
    if parameters is not None:
        assert sum(p.numel() for p in weights) == parameters


NARROW = {"attention_head_dim": 8, "num_attention_heads": 1, "joint_attention_dim": 8, "axes_dims_rope": (2, 2, 4)}


@pytest.mark.parametrize(("policy_class", "full", "narrow", "modules"), [
    (FluxPolicy, FluxTransformer2DModel, {"guidance_embeds": True, "pooled_projection_dim": 8}, 342),
    (QwenImageEditPolicy, QwenImageTransformer2DModel, {}, 480),
])  # fmt: skip
def test_saved_adapter_has_the_modules_of_the_card(policy_class, full, narrow, modules, tmp_path):
    config = LoraConfig(r=1, target_modules=list(policy_class.target_modules))
    with torch.device("meta"):
        names = {name for name, _ in full(guidance_embeds="guidance_embeds" in narrow).named_modules()}
    adapter = get_peft_model(full(**NARROW, **narrow), config)  # of the real depth
    save_adapter(adapter, tmp_path, policy_class.pipeline_class)
    for file, prefix in ((DIFFUSERS_WEIGHTS_FILE, "transformer."), (PEFT_WEIGHTS_FILE, "base_model.model.")):
        saved = {key.removeprefix(prefix).split(".lora_")[0] for key in load_file(tmp_path / file)}
        assert len(saved) == modules
        assert saved <= names
        assert all(name.endswith(policy_class.target_modules) for name in saved)


FAMILIES = {
    "flux": build_flux,
    "kontext": build_flux_kontext,
    "flux2": build_flux2,
    "klein": lambda: build_flux2(klein=True),
    "qwen": build_qwen_image,
    "qwen edit": lambda: build_qwen_image(0, QwenImageEditPipeline),
    "qwen edit plus": lambda: build_qwen_image(0, QwenImageEditPlusPipeline),
    "sd3": build_sd3,
    "z_image": build_z_image,
    "fill": build_flux_fill,
    "omni": build_z_image_omni,
    "krea2": build_krea2,
    "lumina2": build_lumina2,
    "longcat": build_longcat_image,
    "ovis": build_ovis_image,
    "qwen 2.1 edit": build_qwen_image_2_1,
}


# klein has FLUX.2's transformer, Plus that of Qwen-Image-Edit, Fill that of FLUX.1 and Omni that of Z-Image
SLOW = ("klein", "qwen edit plus", "fill", "omni")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FAMILIES])
def test_adapter_has_its_full_strength_in_every_loader(name, tmp_path):
    base = FAMILIES[name]()
    policy = policy_for(base, **({"condition_size": 64} if "edit" in name or name == "kontext" else {}))
    conditioning = policy.encode(
        [{"prompt": "a red circle", "source_image": picture(64, 64, 0), "mask_image": picture(64, 64, 1)}], 32, 96
    )
    stock, plain = copy.deepcopy(base), copy.deepcopy(base.transformer)

    trained = get_peft_model(
        base.transformer, LoraConfig(r=4, lora_alpha=10, target_modules=list(policy.target_modules))
    )
    torch.manual_seed(1)
    for parameter_name, parameter in trained.named_parameters():
        if "lora_B" in parameter_name:
            parameter.data.normal_(std=0.1)
    save_adapter(trained, tmp_path, policy.pipeline_class)
    # as the card says
    attrgetter(loading_call(type(stock).__name__))(stock)(tmp_path, weight_name=DIFFUSERS_WEIGHTS_FILE)
    file, latents = (
        tmp_path / DIFFUSERS_WEIGHTS_FILE,
        policy.initial_noise(1, 32, 96, torch.Generator().manual_seed(0)),
    )

    @torch.no_grad()
    def velocity(model):
        return policy.velocity(model, latents, torch.tensor([0.6]), conditioning, 4.0)

    expected = velocity(trained)
    assert (expected - velocity(plain)).abs().max() > 0.01
    for loader, loaded in {
        "diffusers": lambda: stock.transformer,
        "PEFT": lambda: PeftModel.from_pretrained(copy.deepcopy(plain), tmp_path),
        "ComfyUI": lambda: loaders.comfyui(copy.deepcopy(plain), file),
        "vLLM-Omni, the file": lambda: loaders.vllm_omni_file(copy.deepcopy(plain), file),
        "vLLM-Omni, the folder": lambda: loaders.vllm_omni_folder(copy.deepcopy(plain), tmp_path),
        "SGLang": lambda: loaders.sglang(copy.deepcopy(plain), tmp_path),
    }.items():
        torch.testing.assert_close(
            velocity(loaded()), expected, atol=1e-5, rtol=0, msg=lambda text, loader=loader: f"{loader}: {text}"
        )
