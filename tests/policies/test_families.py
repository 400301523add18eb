"""
The oracle of every text-to-image family: what its policy samples without noise is what its pipeline's own `__call__`
makes. The editing families have files of their own.
"""

import inspect
from functools import partial

import pytest
import torch
from oracle import alone, assert_same_picture, attention_calls, on_policy_ratios, sample
from tiny_newer_pipelines import build_krea2, build_longcat_image, build_lumina2, build_ovis_image
from tiny_pipelines import build_flux, build_flux2, build_qwen_image, build_sd3, build_z_image

from arr_trl.policies import policy_for


ROWS = [
    {"prompt": "a green circle"},
    {"prompt": "Make the square larger and remove the circle from the picture, if there is a circle in the picture"},
    {"prompt": ""},
]
# pipeline, policy's arguments, the two guidance scales
FAMILIES = {
    "flux": (build_flux, {"max_sequence_length": 96}, (1.0, 3.5)),
    "flux2": (build_flux2, {"max_sequence_length": 160}, (1.0, 4.0)),
    "klein": (lambda: build_flux2(klein=True), {"max_sequence_length": 96}, (1.0, 4.0)),
    "klein distilled": (lambda: build_flux2(klein=True, is_distilled=True), {"max_sequence_length": 96}, (1.0, 4.0)),
    "qwen": (build_qwen_image, {}, (1.0, 4.0)),
    "sd3": (build_sd3, {"max_sequence_length": 96}, (1.0, 7.0)),
    "sd3 dynamic": (lambda: build_sd3(use_dynamic_shifting=True), {"max_sequence_length": 96}, (1.0, 7.0)),
    "z_image": (build_z_image, {}, (0.0, 5.0)),
    "krea2": (build_krea2, {}, (0.0, 4.5)),
    "lumina2": (build_lumina2, {}, (1.0, 4.0)),
    "longcat": (build_longcat_image, {}, (1.0, 4.5)),
    "ovis": (build_ovis_image, {"max_sequence_length": 64}, (1.0, 5.0)),
}
GUIDED = ("klein", "qwen", "sd3", "sd3 dynamic", "z_image", "krea2", "lumina2", "longcat", "ovis")
_policies = {}


@pytest.fixture(params=FAMILIES)
def family(request):
    """Name and policy of a family; policies are built once."""
    name = request.param
    if name not in _policies:
        build, policy_kwargs, _ = FAMILIES[name]
        _policies[name] = policy_for(build(), **policy_kwargs)
    return name, _policies[name]


def call(policy, rows, height, width, guidance_scale, seeds):
    """The last latents of the pipeline's own call, as tokens, and its pictures."""
    kept = {}

    def keep(pipeline, step, timestep, tensors):
        kept.update(tensors)
        return {}

    kwargs = policy.call_kwargs(height, width)
    if "callback_on_step_end" in inspect.signature(policy.pipeline.__call__).parameters:
        kwargs["callback_on_step_end"] = keep
    if "negative_prompt" in kwargs:  # Qwen-Image wants as many as there are prompts
        kwargs["negative_prompt"] = [kwargs["negative_prompt"]] * len(rows)
    draw = partial(
        policy.pipeline,
        prompt=[row["prompt"] for row in rows],
        height=height,
        width=width,
        num_inference_steps=5,
        **{policy.guidance_argument: guidance_scale},
        **kwargs,
    )
    images = draw(generator=[torch.Generator().manual_seed(seed) for seed in seeds]).images
    if not kept:  # LongCat-Image calls nobody back
        kept["latents"] = draw(
            generator=[torch.Generator().manual_seed(seed) for seed in seeds], output_type="latent"
        ).images
    latents = kept["latents"]
    return latents if latents.ndim == 3 else latents.flatten(2).transpose(1, 2), images


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96)])
@pytest.mark.parametrize("count", [1, 3])
def test_sampling_without_noise_equals_the_pipeline(family, count, height, width, guided):
    name, policy = family
    guidance_scale = FAMILIES[name][2][guided]
    theirs, their_images = call(policy, ROWS[:count], height, width, guidance_scale, range(count))
    ours = sample(policy, ROWS[:count], height, width, 5, guidance_scale, range(count))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for our_image, their_image in zip(policy.decode(theirs, height, width), their_images, strict=True):
        assert_same_picture(our_image, their_image)


@pytest.mark.parametrize("guided", [False, True])
def test_ratio_is_exactly_one_on_policy(family, guided):
    name, policy = family
    ratios = on_policy_ratios(policy, ROWS, 32, 96, FAMILIES[name][2][guided])
    assert torch.equal(ratios, torch.ones_like(ratios))


def test_a_row_is_the_same_whatever_rows_it_meets(family):
    name, policy = family
    scale = FAMILIES[name][2][1]
    together = policy.encode(ROWS, 32, 96)
    latents = policy.initial_noise(3, 32, 96, torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.9, 0.5, 0.2])  # which may differ by row
    transformer = policy.pipeline.transformer
    batch = policy.velocity(transformer, latents, sigma, together, scale)
    for i, row in enumerate(ROWS):
        own = policy.encode([row], 32, 96)
        single = policy.velocity(transformer, latents[i : i + 1], sigma[i : i + 1], own, scale)
        torch.testing.assert_close(batch[i : i + 1], single, atol=1e-5, rtol=0)
        # the padding that came with the others is taken off again, to the last bit
        padded = policy.velocity(transformer, latents[i : i + 1], sigma[i : i + 1], alone(together, i), scale)
        assert torch.equal(padded, single)


def test_classifier_free_guidance_is_a_second_branch(family):
    name, policy = family
    counts = [sum(attention_calls(policy, ROWS, scale)[2]) for scale in FAMILIES[name][2]]
    assert counts == [3, 6 if name in GUIDED else 3]
    assert [policy.uses_cfg(scale) for scale in FAMILIES[name][2]] == [False, name in GUIDED]


def test_attention_needs_no_mask_whatever_the_lengths(family):
    """With a mask PyTorch's attention leaves the flash kernels."""
    name, policy = family
    calls, masked, forwards, _ = attention_calls(policy, ROWS, FAMILIES[name][2][1])
    assert calls > 0
    assert masked == (len(forwards) if name == "lumina2" else 0)  # whose layer of the text alone takes one in any case
    # rows of one length go together: two of the prompts, or a prompt and the negative one
    assert len(forwards) < 6


@pytest.mark.parametrize("family", ["qwen", "z_image", "krea2", "lumina2"], indirect=True)
def test_padding_is_masked_where_a_forward_for_each_length_would_cost_more(family, monkeypatch):
    name, policy = family
    scale = FAMILIES[name][2][1]
    *_, in_groups = attention_calls(policy, ROWS, scale)
    monkeypatch.setattr(policy, "masks_padding", True)
    _, masked, forwards, together = attention_calls(policy, ROWS, scale)
    assert forwards == [6]
    assert masked > 0
    torch.testing.assert_close(together, in_groups, atol=1e-5, rtol=0)


def test_gradient_reaches_the_transformer_through_both_branches(family):
    name, policy = family
    transformer = policy.pipeline.transformer
    conditioning = policy.encode(ROWS[:1], 32, 96)
    latents = policy.initial_noise(1, 32, 96, torch.Generator().manual_seed(0))
    policy.velocity(transformer, latents, torch.tensor([0.5]), conditioning, FAMILIES[name][2][1]).sum().backward()
    # all but what the last block makes of the text
    assert sum(p.grad is not None for p in transformer.parameters()) > 0.8 * len(list(transformer.parameters()))
    transformer.zero_grad()


def test_the_pipelines_scheduler_is_left_alone(family):
    _, policy = family
    before = policy.pipeline.scheduler.sigmas.clone()
    policy.sigmas(3, 64, 64)
    assert torch.equal(policy.pipeline.scheduler.sigmas, before)


def test_sigmas_run_from_one_to_zero(family):
    _, policy = family
    sigmas = policy.sigmas(5, 32, 96)
    assert sigmas.shape == (6,)
    assert sigmas.dtype == torch.float32
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_no_prompt_of_these_tests_is_cut(family, caplog):
    _, policy = family
    policy.cache.clear()
    conditioning = policy.encode(ROWS, 32, 96)
    assert not [message for message in caplog.messages if message.startswith("The prompt")]
    embeds = conditioning["prompt_embeds"]
    assert not torch.equal(embeds[0], embeds[1])
    assert not torch.equal(embeds[0], embeds[2])


def test_a_prompt_that_is_cut_is_told(family, caplog):
    _, policy = family
    long = "circle " * 2 * policy.max_sequence_length
    policy.encode([{"prompt": long}, ROWS[0]], 32, 96)
    (message,) = [m for m in caplog.messages if m.startswith("The prompt 'circle circle")]
    assert f"`max_sequence_length={policy.max_sequence_length}` of {policy.pipeline_class.__name__} cuts" in message
    assert not any("a green circle" in m for m in caplog.messages)
