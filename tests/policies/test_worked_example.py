"""The policy that the documentation shows is short and right."""

import re
from pathlib import Path

import pytest
import torch
from oracle import on_policy_ratios, picture, sample
from tiny_pipelines import build_aura_flow


PAGE = Path(__file__).parents[2] / "docs" / "source" / "policies.md"
ROWS = [{"prompt": "a green circle"}, {"prompt": ""}, {"prompt": "a red circle left of a blue square"}]


@pytest.fixture(scope="module")
def policy():
    section = PAGE.read_text(encoding="utf-8").partition("## A policy of your own")[2]
    code = re.search(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1]
    assert len(code.splitlines()) < 100
    names = {}
    exec(compile(code, PAGE.name, "exec"), names)
    return names["AuraFlowPolicy"](build_aura_flow(), max_sequence_length=48)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.5])
@pytest.mark.parametrize("count", [1, 3])
def test_sampling_without_noise_equals_the_pipeline(policy, count, guidance_scale):
    ours = sample(policy, ROWS[:count], 48, 80, 5, guidance_scale, range(count))
    call = dict(
        prompt=[row["prompt"] for row in ROWS[:count]],
        height=48,
        width=80,
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        **policy.call_kwargs(48, 80),
    )
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    theirs = policy.pipeline(**call, generator=generators, output_type="latent").images
    torch.testing.assert_close(ours, theirs.flatten(2).transpose(1, 2), atol=1e-5, rtol=0)
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    for our_image, their_image in zip(
        policy.decode(ours, 48, 80), policy.pipeline(**call, generator=generators).images, strict=True
    ):
        assert our_image.size == their_image.size == (80, 48)


def test_its_pictures_and_latents_turn_into_one_another(policy):
    latents = policy.encode_pictures([picture(80, 48, 0)], 48, 80).requires_grad_()
    assert latents.shape == policy.initial_noise(1, 48, 80, torch.Generator()).shape
    pixels = policy.to_pixels(latents, 48, 80)
    vae = policy.pipeline.vae
    mode = vae.encode(policy.pipeline.image_processor.preprocess(picture(80, 48, 0))).latent_dist.mode()
    torch.testing.assert_close(pixels, vae.decode(mode, return_dict=False)[0], atol=3e-5, rtol=0)
    (gradient,) = torch.autograd.grad(pixels.sum(), latents)
    assert gradient.ne(0).all()


def test_ratio_is_exactly_one_on_policy(policy):
    ratios = on_policy_ratios(policy, ROWS, 48, 80, 3.5)
    assert torch.equal(ratios, torch.ones_like(ratios))
