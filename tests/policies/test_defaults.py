"""Guidance and steps of who names neither, and bases that were distilled to few steps."""

import pytest
from diffusers import FluxTransformer2DModel, QwenImageEditPipeline, QwenImageEditPlusPipeline
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
from tiny_pipelines import build_flux, build_flux2, build_flux_kontext, build_qwen_image, build_sd3, build_z_image

from arr_trl.policies import policy_for
from arr_trl.policies.limits import named_distilled
from arr_trl.tiny_scenes import load_edit_pipeline, load_pipeline


def named(pipeline, name):
    """As `from_pretrained` leaves it."""
    pipeline.register_to_config(_name_or_path=name)
    return pipeline


def build_schnell():
    pipeline = build_flux()
    config = {**pipeline.transformer.config, "guidance_embeds": False}
    pipeline.register_modules(transformer=FluxTransformer2DModel.from_config(config))
    return pipeline


def build_undistilled_z_image():
    pipeline = build_z_image()
    pipeline.scheduler.register_to_config(shift=6.0)
    return pipeline


SD35 = "stabilityai/stable-diffusion-3.5-large"
# pipeline, whether it was distilled, its steps and guidance, whether a forward then has a second branch
BASES = {
    "FLUX.1-dev": (build_flux, False, 30, 3.5, False),
    "FLUX.1-schnell": (build_schnell, True, 4, 3.5, False),  # its network takes no guidance
    "FLUX.1-Kontext-dev": (build_flux_kontext, False, 28, 2.5, False),
    "FLUX.2-dev": (build_flux2, False, 50, 4.0, False),
    "FLUX.2-dev-Turbo": (lambda: named(build_flux2(), "fal/FLUX.2-dev-Turbo"), True, 4, 4.0, False),
    "FLUX.2-klein-base-4B": (lambda: build_flux2(klein=True), False, 50, 4.0, True),
    "FLUX.2-klein-4B": (lambda: build_flux2(klein=True, is_distilled=True), True, 4, 1.0, False),
    "Qwen-Image": (build_qwen_image, False, 50, 4.0, True),
    "Qwen-Image-Edit": (lambda: build_qwen_image(0, QwenImageEditPipeline), False, 50, 4.0, True),
    "Qwen-Image-Edit-2511": (lambda: build_qwen_image(0, QwenImageEditPlusPipeline), False, 40, 4.0, True),
    "SD3.5-large": (lambda: named(build_sd3(), SD35), False, 28, 4.5, True),
    "SD3.5-large-turbo": (lambda: named(build_sd3(), f"{SD35}-turbo"), True, 4, 1.0, False),
    "Z-Image": (build_undistilled_z_image, False, 50, 4.0, True),
    "Z-Image-Turbo": (build_z_image, True, 8, 0.0, False),
    "Krea-2": (build_krea2, False, 28, 4.5, True),
    "Krea-2, distilled": (lambda: build_krea2(is_distilled=True), True, 8, 0.0, False),
    "Lumina-Image-2.0": (build_lumina2, False, 30, 4.0, True),
    "Qwen-Image-2.1": (build_qwen_image_2_1, False, 40, 1.0, False),
    "FLUX.1-Fill-dev": (build_flux_fill, False, 50, 30.0, False),
    "FLUX.1-dev, inpainting": (build_flux_inpaint, False, 28, 7.0, False),
    "Qwen-Image, inpainting": (build_qwen_image_inpaint, False, 50, 4.0, True),
    "Z-Image-Omni": (build_z_image_omni, False, 50, 5.0, True),
    "LongCat-Image": (build_longcat_image, False, 50, 4.5, True),
    "Ovis-Image": (build_ovis_image, False, 50, 5.0, True),
    "TinyScenes": (load_pipeline, False, 30, 3.5, False),
    "TinyScenes, editing": (load_edit_pipeline, False, 50, 4.0, True),
}


@pytest.mark.parametrize("base", BASES)
def test_a_base_is_used_as_its_card_says(base, caplog):
    build, distilled, steps, guidance, second_branch = BASES[base]
    policy = policy_for(build())
    assert policy.distilled is distilled
    assert (policy.default_num_inference_steps, policy.default_guidance_scale) == (steps, guidance)
    assert policy.uses_cfg(policy.default_guidance_scale) is second_branch
    policy.warn_if_distilled()
    assert [" was distilled to few steps." in message for message in caplog.messages] == [True] * distilled


def test_a_distilled_base_leaves_its_family_as_it_was():
    policy_for(named(build_sd3(), f"{SD35}-turbo"))
    assert policy_for(named(build_sd3(), SD35)).default_num_inference_steps == 28


def test_z_image_turbo_has_eight_forwards_each_of_which_does_something():
    policy = policy_for(build_z_image())
    sigmas = policy.sigmas(policy.default_num_inference_steps, 64, 64)
    assert (sigmas.diff() < 0).tolist() == [True] * 8


def test_warning_names_the_model_and_what_to_train_instead(caplog):
    policy_for(named(build_sd3(), f"{SD35}-turbo")).warn_if_distilled()
    (message,) = caplog.messages
    assert message.startswith(f"{SD35}-turbo was distilled to few steps.")
    assert "https://github.com/NVlabs/DiffusionNFT/issues/45" in message
    assert "SD3.5-large" in message


@pytest.mark.parametrize("name", [
    "stabilityai/stable-diffusion-3.5-large-turbo", "tensorart/stable-diffusion-3.5-large-TurboX",
    "/data/models/FLUX.1-schnell/", "lightx2v/Qwen-Image-Lightning", "shauray/FluxDev-HyperSD-merged", "me/hyper_flux",
])  # fmt: skip
def test_name_that_tells_of_few_steps(name):
    assert named_distilled(name)


@pytest.mark.parametrize("name", [
    None, "", "stabilityai/stable-diffusion-3.5-large", "ostris/Z-Image-De-Turbo", "me/deturbo", "me/hyperreal-qwen",
    "turbo/sd3.5-medium", "/data/turbo/sd3.5-medium", "black-forest-labs/FLUX.1-dev",
])  # fmt: skip
def test_name_that_tells_nothing_of_few_steps(name):
    assert not named_distilled(name)
