"""The oracle of FLUX.1-Kontext."""

import pytest
import torch
from diffusers.pipelines.flux import pipeline_flux_kontext
from oracle import alone, assert_same_picture, on_policy_ratios, picture, sample
from tiny_pipelines import build_flux_kontext

from arr_trl.evaluation import InferenceSettings, draw
from arr_trl.policies import FluxKontextPolicy


CONDITION_SIZE = 64
ROWS = [
    {"prompt": "a red circle", "source_image": picture(64, 64, 0)},
    {"prompt": "", "source_image": picture(96, 48, 1)},
    {"prompt": "a green triangle above a red square", "source_image": picture(50, 100, 2)},
]


@pytest.fixture(scope="module")
def policy():
    return FluxKontextPolicy(build_flux_kontext(), max_sequence_length=32, condition_size=CONDITION_SIZE)


@pytest.fixture(autouse=True)
def small_sources(monkeypatch, policy):
    """The pipeline, whose sizes of a source are constants, with those of the policy, as model cards set them."""
    sizes = pipeline_flux_kontext.PREFERRED_KONTEXT_RESOLUTIONS
    monkeypatch.setattr(pipeline_flux_kontext, "PREFERRED_KONTEXT_RESOLUTIONS", sizes)  # put back after the test
    exec(policy.call_setup(), {})


def call(policy, prompt, image, height, width, guidance_scale, seeds, output_type="latent"):
    return policy.pipeline(
        image=image,
        prompt=prompt,
        height=height,
        width=width,
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type=output_type,
        **policy.call_kwargs(height, width),
    ).images


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80)])
@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_rows_with_different_sources_equal_the_pipelines_one_by_one(policy, height, width, guidance_scale):
    ours = sample(policy, ROWS, height, width, 4, guidance_scale, range(3))
    for i, row in enumerate(ROWS):
        theirs = call(policy, row["prompt"], row["source_image"], height, width, guidance_scale, [i])
        torch.testing.assert_close(ours[i : i + 1], theirs, atol=1e-5, rtol=0)
        single = sample(policy, [row], height, width, 4, guidance_scale, [i])
        torch.testing.assert_close(single, theirs, atol=1e-5, rtol=0)


def test_edits_have_the_sizes_and_pixels_that_the_pipeline_draws_of_an_area(policy):
    ours = draw(policy, policy.pipeline.transformer, ROWS, range(3), InferenceSettings(64, 64, 4, 2.5))
    assert len({image.size for image in ours}) == 3
    for i, (image, row) in enumerate(zip(ours, ROWS, strict=True)):
        source = row["source_image"]
        (theirs,) = policy.pipeline(
            image=source, prompt=row["prompt"], height=source.height, width=source.width, max_area=64 * 64,
            num_inference_steps=4, guidance_scale=2.5, generator=torch.Generator().manual_seed(i),
            max_sequence_length=32,
        ).images  # fmt: skip
        assert_same_picture(image, theirs)


def test_source_of_the_configured_aspect_is_drawn_at_the_configured_size(policy):
    # 722 × 478 would be the nearest of that area for the first
    rows = [{"prompt": "", "source_image": picture(w, h, 0)} for w, h in ((151, 100), (1024, 683), (100, 150))]
    assert policy.sizes_of(rows, 480, 720, True)[:2] == [(480, 720)] * 2
    assert policy.sizes_of(rows, 480, 720, True)[2] != (480, 720)
    assert policy.sizes_of([rows[2] | {"height": 64, "width": 48}], 480, 720, True) == [(64, 48)]


def test_batch_equals_the_pipelines_batch(policy):
    rows = [row | {"source_image": picture(70, 70, i)} for i, row in enumerate(ROWS)]
    ours = sample(policy, rows, 48, 80, 4, 2.5, range(3))
    prompts, images = ([row[name] for row in rows] for name in ("prompt", "source_image"))
    torch.testing.assert_close(ours, call(policy, prompts, images, 48, 80, 2.5, range(3)), atol=1e-5, rtol=0)


def test_decoded_pictures_equal_the_pipelines(policy):
    latents = sample(policy, ROWS[2:], 48, 80, 4, 2.5, [5])
    (theirs,) = call(policy, ROWS[2]["prompt"], ROWS[2]["source_image"], 48, 80, 2.5, [5], "pil")
    assert_same_picture(policy.decode(latents, 48, 80)[0], theirs)


def test_ratio_is_exactly_one_on_policy(policy):
    ratios = on_policy_ratios(policy, ROWS, 48, 80, 2.5)
    assert torch.equal(ratios, torch.ones_like(ratios))


def test_a_row_is_the_same_whatever_rows_it_meets(policy):
    together = policy.encode(ROWS, 48, 80)
    latents = policy.initial_noise(3, 48, 80, torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.9, 0.5, 0.2])
    transformer = policy.pipeline.transformer
    batch = policy.velocity(transformer, latents, sigma, together, 2.5)
    for i in range(3):
        single = policy.velocity(transformer, latents[i : i + 1], sigma[i : i + 1], alone(together, i), 2.5)
        assert torch.equal(batch[i : i + 1], single)


def test_sources_are_taken_at_kontexts_own_sizes_by_default(policy, monkeypatch):
    monkeypatch.undo()
    default = FluxKontextPolicy(policy.pipeline, max_sequence_length=32)
    asked = []
    monkeypatch.setattr(
        policy.pipeline, "prepare_latents", lambda pixels, *args: asked.append(tuple(pixels.shape)) or 1 / 0
    )
    for row in ROWS:
        with pytest.raises(ZeroDivisionError):
            default.encode([row], 48, 80)
    assert asked == [(1, 3, 1024, 1024), (1, 3, 720, 1456), (1, 3, 1456, 720)]
    assert default.call_kwargs(48, 80) == {"max_sequence_length": 32, "max_area": 48 * 80}
    assert default.call_setup() == ""


def test_encoding_leaves_the_global_random_state_alone(policy):
    policy.cache.clear()
    before = torch.get_rng_state()
    policy.encode(ROWS, 48, 80)
    assert torch.equal(torch.get_rng_state(), before)


def test_several_sources_are_refused(policy):
    with pytest.raises(ValueError, match="has 2 source images, and FluxKontextPipeline edits one"):
        policy.encode([ROWS[0] | {"source_image": [picture(8, 8, 0)] * 2}], 48, 80)
