"""The oracle of families that draw a part of a picture anew, and what only their policies do."""

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from oracle import assert_same_picture, attention_calls, on_policy_ratios, picture, sample
from PIL import Image
from tiny_newer_pipelines import build_flux_fill, build_flux_inpaint, build_qwen_image_inpaint

from arr_trl.policies import policy_for


def left(width, height, share):
    """A mask that is white in a part of the picture at its left."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, : int(share * width)] = 255
    return Image.fromarray(mask)


ROWS = [
    {"prompt": "Make the circle green", "source_image": picture(64, 64, 0), "mask_image": left(64, 64, 0.5)},
    {"prompt": "Remove", "source_image": picture(96, 48, 1), "mask_image": left(50, 50, 0.25)},
    {"prompt": "Make the square larger and remove the circle", "source_image": picture(50, 90, 2), "mask_image": left(9, 9, 1)},
]  # fmt: skip
# pipeline, policy's arguments, the two guidance scales
FAMILIES = {
    "fill": (build_flux_fill, {"max_sequence_length": 96}, (1.0, 30.0)),
    "flux": (build_flux_inpaint, {"max_sequence_length": 96}, (1.0, 7.0)),
    "qwen": (build_qwen_image_inpaint, {}, (1.0, 4.0)),
}
_policies = {}


@pytest.fixture(params=FAMILIES)
def family(request):
    """A policy and its two guidance scales; policies are built once."""
    build, policy_kwargs, scales = FAMILIES[request.param]
    if request.param not in _policies:
        _policies[request.param] = policy_for(build(), **policy_kwargs)
    return _policies[request.param], scales


@pytest.fixture
def modes(monkeypatch):
    """The pipelines sample latents of sources, with the generator of the noise; policies take the mode."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def call(policy, row, height, width, guidance_scale, seed):
    kept = {}

    def keep(pipeline, step, timestep, tensors):
        kept.update(tensors)
        return {}

    (image,) = policy.pipeline(
        prompt=row["prompt"],
        image=row["source_image"],
        mask_image=row["mask_image"],
        height=height,
        width=width,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(seed),
        callback_on_step_end=keep,
        **{policy.guidance_argument: guidance_scale},
        **policy.call_kwargs(height, width),
    ).images
    return kept["latents"], image


@pytest.mark.parametrize(("height", "width", "guided"), [(64, 64, False), (32, 96, True)])
def test_rows_with_sources_and_masks_equal_the_pipelines(family, modes, height, width, guided):
    policy, scales = family
    ours = sample(policy, ROWS, height, width, 4, scales[guided], range(3))
    for i, row in enumerate(ROWS):
        theirs, image = call(policy, row, height, width, scales[guided], i)
        torch.testing.assert_close(ours[i : i + 1], theirs, atol=1e-5, rtol=0)
        assert_same_picture(policy.decode(theirs, height, width)[0], image)


@pytest.mark.parametrize("guided", [False, True])
def test_ratio_is_exactly_one_on_policy(family, guided):
    policy, scales = family
    ratios = on_policy_ratios(policy, ROWS, 32, 96, scales[guided])
    assert torch.equal(ratios, torch.ones_like(ratios))


def test_what_the_mask_leaves_is_the_source(family):
    policy, scales = family
    if policy.pipeline_class.__name__ == "FluxFillPipeline":
        return  # it is told what was there, and draws all of the picture
    latents = sample(policy, ROWS[:1], 64, 64, 4, scales[1], [0])
    source = policy.encode_pictures([ROWS[0]["source_image"]], 64, 64)
    columns = torch.arange(latents.shape[1]) % (64 // policy.size_multiple)
    right = columns >= 64 // policy.size_multiple // 2
    torch.testing.assert_close(latents[:, right], source[:, right], atol=1e-5, rtol=0)
    assert (latents - source)[:, ~right].abs().max() > 0.1


def test_rows_are_told_apart_by_their_masks(family):
    policy, _ = family
    assert policy.cache_key(ROWS[0]) != policy.cache_key(ROWS[0] | {"mask_image": left(64, 64, 0.25)})
    assert policy.cache_key(ROWS[0]) == policy.cache_key(ROWS[0] | {"mask_image": left(64, 64, 0.5)})


@pytest.mark.parametrize(("mask", "found"), [
    (None, "has None as `mask_image`"), ([left(8, 8, 1)], "needs one picture"), ("no.png", "cannot be used"),
])  # fmt: skip
def test_a_wrong_mask_is_told_with_its_prompt(family, mask, found):
    policy, _ = family
    with pytest.raises(ValueError, match=f"'Remove' has .*{found.split('has ')[-1]}"):
        policy.encode([ROWS[1] | {"mask_image": mask}], 32, 96)


def test_the_same_row_is_always_encoded_alike(family):
    policy, _ = family
    before = torch.get_rng_state()
    one = policy.encode_rows(ROWS[:1], 32, 96)
    other = policy.encode_rows(ROWS[:1], 32, 96)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), before)


def test_attention_needs_no_mask_whatever_the_lengths(family):
    """With a mask PyTorch's attention leaves the flash kernels."""
    policy, scales = family
    calls, masked, *_ = attention_calls(policy, ROWS, scales[1])
    assert calls > 0
    assert masked == 0
