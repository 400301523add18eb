"""What only the policy of Qwen-Image-2.1 does. Its oracle is in test_optional_sources.py."""

import pytest
import torch
from oracle import assert_same_picture, picture
from PIL import Image
from tiny_newer_pipelines import build_qwen_image_2_1

from arr_trl.policies import QwenImage21Policy


ROWS = [{"prompt": "a green circle"}, {"prompt": "Make the square larger and remove the circle"}, {"prompt": ""}]


@pytest.fixture(scope="module")
def policy():
    return QwenImage21Policy(build_qwen_image_2_1(), condition_size=96, negative_prompt=" ")


def over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def test_a_picture_is_that_of_the_pipeline_over_white(policy):
    kept = {}
    (theirs,) = policy.pipeline(
        prompt="a green circle",
        height=32,
        width=96,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(0),
        callback_on_step_end=lambda pipeline, step, timestep, tensors: kept.update(tensors) or {},
    ).images
    assert theirs.mode == "RGBA"
    assert theirs.getextrema()[3][0] < 255
    (ours,) = policy.decode(kept["latents"], 32, 96)
    assert ours.mode == "RGB"
    assert_same_picture(ours, over_white(theirs))


def test_given_pictures_are_opaque(policy):
    image = picture(96, 32, 0)
    latents = policy.encode_pictures([image], 32, 96)
    pixels = policy.pipeline.image_processor.preprocess(image.convert("RGBA"))
    with torch.no_grad():
        theirs = policy.pipeline._encode_vae_image(pixels[:, :, None], None)
    torch.testing.assert_close(latents, theirs.flatten(2).transpose(1, 2), atol=1e-5, rtol=0)
    assert latents.shape == policy.initial_noise(1, 32, 96, torch.Generator()).shape
    assert latents.is_contiguous()


def test_gradient_of_pixels_reaches_every_latent(policy):
    latents = policy.initial_noise(1, 32, 96, torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad((policy.to_pixels(latents, 32, 96) * torch.rand(3, 32, 96)).sum(), latents)
    assert gradient.ne(0).all()


def test_gradient_reaches_the_transformer_through_both_branches_one_length_at_a_time(policy):
    rows, transformer = [], policy.pipeline.transformer
    hook = transformer.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    conditioning = policy.encode(ROWS, 32, 96)
    latents = policy.initial_noise(3, 32, 96, torch.Generator().manual_seed(0))
    policy.velocity(transformer, latents, torch.tensor([0.9, 0.5, 0.2]), conditioning, 4.0).sum().backward()
    hook.remove()
    assert rows == [1, 1, 4]  # the empty prompt is as long as the three negative ones
    assert sum(p.grad is not None for p in transformer.parameters()) > 0.8 * len(list(transformer.parameters()))
    transformer.zero_grad()
    assert not policy.uses_cfg(1.0)


def test_by_default_there_is_no_guidance(policy):
    plain = QwenImage21Policy(policy.pipeline)
    assert not plain.uses_cfg(4.0)
    assert plain.call_kwargs(32, 96) == {"output_resolution": 1024}


def test_a_schedule_of_its_own_is_sampled_or_refused():
    policy = QwenImage21Policy(build_qwen_image_2_1(sample_sigmas=[1.0, 0.7, 0.2]))
    assert policy.default_num_inference_steps == 3
    sigmas = policy.sigmas(3, 32, 96)
    assert policy.pipeline.scheduler.sigmas.shape != sigmas.shape  # a copy of it was asked
    policy.pipeline(prompt="a circle", height=32, width=96, output_type="latent")
    torch.testing.assert_close(sigmas, policy.pipeline.scheduler.sigmas, atol=0, rtol=0)
    with pytest.raises(ValueError, match=r"has a schedule of 3 steps of its own.* Use 3 steps instead of 4"):
        policy.sigmas(4, 32, 96)
    policy.pipeline.register_to_config(sample_sigmas=None)
    assert len(policy.sigmas(4, 32, 96)) == 5


def test_a_source_too_small_for_the_autoencoder_is_refused(policy):
    with pytest.raises(ValueError, match="condition_size=8 is less than"):
        QwenImage21Policy(policy.pipeline, condition_size=8)


def test_a_source_larger_than_the_processor_takes_is_refused(policy):
    large = QwenImage21Policy(policy.pipeline, condition_size=512)  # its processor takes 256 × 256 pixels
    with pytest.raises(ValueError, match="resizes sources of condition_size=512 once more"):
        large.encode([{"prompt": "Remove", "source_image": picture(64, 64, 0)}], 32, 96)
