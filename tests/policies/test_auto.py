"""A pipeline's class decides its policy, before any weights are read."""

import json

import pytest
import torch
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from tiny_newer_pipelines import (
    build_flux_fill,
    build_flux_inpaint,
    build_krea2,
    build_longcat_image,
    build_lumina2,
    build_ovis_image,
    build_qwen_image_2_1,
    build_qwen_image_inpaint,
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
    POLICIES,
    Flux2KleinPolicy,
    Flux2Policy,
    FluxFillPolicy,
    FluxInpaintPolicy,
    FluxKontextPolicy,
    FluxPolicy,
    Krea2Policy,
    LongCatImagePolicy,
    Lumina2Policy,
    OvisImagePolicy,
    QwenImage21Policy,
    QwenImageEditPlusPolicy,
    QwenImageEditPolicy,
    QwenImageInpaintPolicy,
    QwenImagePolicy,
    StableDiffusion3Policy,
    ZImageOmniPolicy,
    ZImagePolicy,
    load_policy,
    policy_for,
)


BUILT_FOR = {
    FluxPolicy: build_flux,
    FluxKontextPolicy: build_flux_kontext,
    Flux2Policy: build_flux2,
    Flux2KleinPolicy: lambda: build_flux2(klein=True),
    QwenImagePolicy: build_qwen_image,
    QwenImageEditPolicy: lambda: build_qwen_image(0, QwenImageEditPipeline),
    QwenImageEditPlusPolicy: lambda: build_qwen_image(0, QwenImageEditPlusPipeline),
    StableDiffusion3Policy: build_sd3,
    ZImagePolicy: build_z_image,
    Krea2Policy: build_krea2,
    Lumina2Policy: build_lumina2,
    LongCatImagePolicy: build_longcat_image,
    OvisImagePolicy: build_ovis_image,
    QwenImage21Policy: build_qwen_image_2_1,
    FluxFillPolicy: build_flux_fill,
    FluxInpaintPolicy: build_flux_inpaint,
    QwenImageInpaintPolicy: build_qwen_image_inpaint,
    ZImageOmniPolicy: build_z_image_omni,
}


def test_every_policy_is_listed_once():
    assert set(POLICIES) == BUILT_FOR.keys()
    assert len({policy_class.pipeline_class for policy_class in POLICIES}) == len(POLICIES)


def save(pipeline, folder):
    """As the published models are saved: with the processor's own class, whatever it was built with."""
    pipeline.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    if "processor" in index:
        index["processor"] = ["transformers", type(pipeline.processor).__base__.__name__]
    if "text_processor" in index:
        index["text_processor"] = ["transformers", "Qwen2VLProcessor"]
    if "siglip_processor" in index:
        index["siglip_processor"] = ["transformers", "Siglip2ImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("policy_class", POLICIES)
def test_a_folder_is_loaded_as_the_policy_of_its_class(policy_class, tmp_path):
    pipeline = BUILT_FOR[policy_class]()
    save(pipeline, tmp_path)
    policy = load_policy(str(tmp_path), {"height": 32, "width": 96}, {"max_cached_prompts": 3}, dtype=torch.float32)
    assert type(policy) is policy_class
    for name, parameter in pipeline.transformer.named_parameters():
        assert torch.equal(parameter, policy.pipeline.transformer.get_parameter(name))
    assert type(policy_for(pipeline)) is policy_class


@pytest.mark.parametrize(("name", "size", "message"), [
    ("height", 500, "height=500 does not divide by 8, the latent patch of QwenImageEditPipeline; use 496 or 504."),
    ("width", 3, "width=3 does not divide by 8, the latent patch of QwenImageEditPipeline; use 8."),
    ("eval_width", 0, "eval_width=0 does not divide by 8, the latent patch of QwenImageEditPipeline; use 8."),
])  # fmt: skip
def test_bad_size_is_refused_before_weights_are_read(tmp_path, name, size, message):
    save(build_qwen_image(0, QwenImageEditPipeline), tmp_path)
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ValueError) as error:
        load_policy(str(tmp_path), {"height": 512, "width": 512, name: size})
    assert str(error.value) == message


def test_a_setting_that_the_family_lacks_is_refused_before_weights_are_read(saved_flux_pipeline):
    for weights in saved_flux_pipeline.rglob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ValueError) as error:
        load_policy(str(saved_flux_pipeline), {"height": 32}, {"condition_size": 512})
    assert str(error.value) == (
        "`condition_size` is no setting of FluxPipeline, which has max_sequence_length, max_cached_prompts; leave it out."
    )


def test_unknown_pipeline_is_told_what_is_supported(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableMystery"}))
    with pytest.raises(
        TypeError, match=r"no policy for StableMystery; supported are FluxPipeline, .*ZImagePipeline"
    ) as e:
        load_policy(str(tmp_path), {"height": 32, "width": 32})
    assert "policies.md shows how" in str(e.value)


def test_a_folder_that_is_no_pipeline_is_told(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a pipeline of diffusers"):
        load_policy(str(tmp_path), {"height": 32, "width": 32})


@pytest.mark.parametrize("policy_class", [QwenImageEditPolicy, FluxKontextPolicy])
def test_a_source_too_small_for_the_autoencoder_is_refused(policy_class):
    with pytest.raises(ValueError, match="condition_size=8 is less than"):
        policy_class(BUILT_FOR[policy_class](), condition_size=8)
