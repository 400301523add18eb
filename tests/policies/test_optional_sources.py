"""
The oracle of families that draw from a prompt alone, or after the pictures of a row's `source_image` in their order. That of
prompts alone is in test_families.py.
"""

import pytest
import torch
from oracle import alone, attention_calls, on_policy_ratios, picture, sample
from tiny_newer_pipelines import build_qwen_image_2_1, build_z_image_omni
from tiny_pipelines import build_flux2

from arr_trl.policies import QwenImage21Policy, policy_for


# of different shapes and lengths; more than one batch holds of what goes through the network together
ROWS = [
    {"prompt": "Make the circle green", "source_image": [picture(64, 64, 0), picture(100, 72, 1)]},
    {"prompt": "a green circle"},
    {"prompt": "Remove the square and the circle from the picture", "source_image": picture(72, 100, 2)},
]
# pipeline, policy's arguments, the two guidance scales
FAMILIES = {
    "flux2": (build_flux2, {"max_sequence_length": 160}, (1.0, 4.0)),
    "klein": (lambda: build_flux2(klein=True), {"max_sequence_length": 96}, (1.0, 4.0)),
    "qwen 2.1": (build_qwen_image_2_1, {"condition_size": 96, "negative_prompt": " "}, (1.0, 4.0)),
    "omni": (build_z_image_omni, {}, (0.0, 5.0)),
}
_policies = {}


@pytest.fixture(params=FAMILIES)
def family(request):
    """A policy and its two guidance scales; policies are built once."""
    build, policy_kwargs, scales = FAMILIES[request.param]
    if request.param not in _policies:
        _policies[request.param] = policy_for(build(), **policy_kwargs)
    return _policies[request.param], scales


def call(policy, row, height, width, guidance_scale, seed):
    """The last latents of the pipeline's own call, as tokens."""
    kept = {}

    def keep(pipeline, step, timestep, tensors):
        kept.update(tensors)
        return {}

    source = row.get("source_image")
    policy.pipeline(
        prompt=row["prompt"],
        height=height,
        width=width,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(seed),
        callback_on_step_end=keep,
        output_type="latent",
        **({} if source is None else {"image": source}),
        **{policy.guidance_argument: guidance_scale},
        **policy.call_kwargs(height, width),
    )
    latents = kept["latents"]
    return latents if latents.ndim == 3 else latents.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(("height", "width", "guided"), [(64, 64, False), (32, 96, True)])
def test_rows_with_several_one_and_no_reference_equal_the_pipelines(family, height, width, guided):
    policy, scales = family
    ours = sample(policy, ROWS, height, width, 4, scales[guided], range(3))
    for i, row in enumerate(ROWS):
        theirs = call(policy, row, height, width, scales[guided], i)
        torch.testing.assert_close(ours[i : i + 1], theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("guided", [False, True])
def test_ratio_is_exactly_one_on_policy(family, guided):
    policy, scales = family
    ratios = on_policy_ratios(policy, ROWS, 32, 96, scales[guided])
    assert torch.equal(ratios, torch.ones_like(ratios))


def test_a_row_is_the_same_whatever_rows_it_meets(family):
    policy, scales = family
    together = policy.encode(ROWS, 32, 96)
    latents = policy.initial_noise(3, 32, 96, torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.9, 0.5, 0.2])
    model = policy.pipeline.transformer
    batch = policy.velocity(model, latents, sigma, together, scales[1])
    for i, row in enumerate(ROWS):
        single = policy.velocity(model, latents[i : i + 1], sigma[i : i + 1], policy.encode([row], 32, 96), scales[1])
        torch.testing.assert_close(batch[i : i + 1], single, atol=1e-5, rtol=0)
        padded = policy.velocity(model, latents[i : i + 1], sigma[i : i + 1], alone(together, i), scales[1])
        assert torch.equal(padded, single)


def test_references_count_in_their_order(family):
    policy, _ = family
    row = ROWS[0]
    turned = row | {"source_image": row["source_image"][::-1]}
    assert policy.cache_key(row) != policy.cache_key(turned)
    assert policy.cache_key(row) != policy.cache_key({"prompt": row["prompt"]})
    one, other = (sample(policy, [r], 32, 96, 2, 1.0, [0]) for r in (row, turned))
    assert (one - other).abs().max() > 1e-3


def test_an_autoencoder_that_could_not_encode_pictures_is_told():
    pipeline = build_z_image_omni()
    pipeline.vae.float()
    policy = policy_for(pipeline)
    policy.encode(ROWS[1:2], 32, 96)
    with pytest.raises(ValueError, match=r"its autoencoder is in float32; call `pipe\.vae\.to\(torch\.bfloat16\)`"):
        policy.encode(ROWS[:1], 32, 96)


def test_a_source_that_is_no_picture_is_told_with_its_prompt(family):
    policy, _ = family
    with pytest.raises(ValueError, match=r"'Make the circle green' has .* as `source_image`"):
        policy.encode([ROWS[0] | {"source_image": "source.png"}], 32, 96)


@pytest.mark.parametrize("references", [0, 1, 2])
def test_attention_needs_no_mask_whatever_the_lengths(family, references):
    """With a mask PyTorch's attention leaves the flash kernels."""
    policy, scales = family
    sources = {"source_image": [picture(64, 64, i) for i in range(references)]} if references else {}
    rows = [
        {"prompt": text, **sources} for text in ("a green circle", "a red circle", "a circle " * 12, "a square " * 12)
    ]
    calls, masked, forwards, _ = attention_calls(policy, rows, scales[1], 64, 64)
    assert calls > 0
    if not isinstance(policy, QwenImage21Policy):  # whose network reads from left to right, picture by picture
        assert masked == 0
    assert len(forwards) < sum(forwards)  # rows of one length go together


def test_padding_is_masked_where_a_forward_for_each_length_would_cost_more(monkeypatch):
    policy = policy_for(build_z_image_omni())
    *_, in_groups = attention_calls(policy, ROWS, 5.0, 64, 64)
    monkeypatch.setattr(policy, "masks_padding", True)
    _, masked, forwards, together = attention_calls(policy, ROWS, 5.0, 64, 64)
    assert sorted(forwards) == [2, 4]  # without pictures and with some, both branches
    assert masked > 0
    torch.testing.assert_close(together, in_groups, atol=1e-5, rtol=0)
