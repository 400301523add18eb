"""The oracle of Qwen-Image-Edit, and what only its policies do."""

import pytest
import torch
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from oracle import alone, assert_same_picture, attention_calls, on_policy_ratios, picture, sample
from tiny_pipelines import build_qwen_image

from arr_trl.evaluation import InferenceSettings, draw
from arr_trl.policies import QwenImageEditPlusPolicy, QwenImageEditPolicy


CONDITION_SIZE = 64
ROWS = [
    {"prompt": "Make the circle green", "source_image": picture(64, 64, 0)},
    {"prompt": "Remove", "source_image": picture(96, 48, 1)},
    {"prompt": "Make the square larger and remove the circle from it", "source_image": picture(50, 100, 2)},
]


@pytest.fixture(scope="module")
def policy():
    return QwenImageEditPolicy(build_qwen_image(0, QwenImageEditPipeline), condition_size=CONDITION_SIZE)


@pytest.fixture(scope="module")
def plus_policy():
    pipeline = build_qwen_image(0, QwenImageEditPlusPipeline, zero_cond_t=True)  # as in 2511
    return QwenImageEditPlusPolicy(pipeline, condition_size=CONDITION_SIZE)


@pytest.fixture(autouse=True)
def small_sources(monkeypatch, policy, plus_policy):
    """The pipelines, whose size of a source is a constant, with that of the policies, as model cards set it."""
    dimensions = pipeline_qwenimage_edit.calculate_dimensions
    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", dimensions)  # put back after the test
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", 1024 * 1024)
    exec(policy.call_setup(), {})
    exec(plus_policy.call_setup(), {})


def call(policy, prompt, image, height, width, guidance_scale, seeds, output_type="latent"):
    return policy.pipeline(
        prompt=prompt,
        image=image,
        negative_prompt=[" "] * len(prompt) if isinstance(prompt, list) else " ",
        true_cfg_scale=guidance_scale,
        height=height,
        width=width,
        num_inference_steps=4,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type=output_type,
    ).images


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80)])
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_rows_with_different_sources_equal_the_pipelines_one_by_one(policy, height, width, guidance_scale):
    ours = sample(policy, ROWS, height, width, 4, guidance_scale, range(3))
    for i, row in enumerate(ROWS):
        theirs = call(policy, row["prompt"], row["source_image"], height, width, guidance_scale, [i])
        torch.testing.assert_close(ours[i : i + 1], theirs, atol=1e-5, rtol=0)
        single = sample(policy, [row], height, width, 4, guidance_scale, [i])
        torch.testing.assert_close(single, theirs, atol=1e-5, rtol=0)


def test_edits_have_the_sizes_and_pixels_that_the_pipeline_draws_without_being_told_a_size(policy):
    side = CONDITION_SIZE
    ours = draw(policy, policy.pipeline.transformer, ROWS, range(3), InferenceSettings(side, side, 4, 1.0))
    assert [image.size for image in ours] == [(64, 64), (96, 32), (32, 96)]
    for i, (image, row) in enumerate(zip(ours, ROWS, strict=True)):
        (theirs,) = call(policy, row["prompt"], row["source_image"], None, None, 1.0, [i], "pil")
        assert_same_picture(image, theirs)


def test_last_of_several_sources_decides_the_size_as_in_the_pipeline(plus_policy, monkeypatch):
    dimensions = pipeline_qwenimage_edit_plus.calculate_dimensions
    side = CONDITION_SIZE
    monkeypatch.setattr(
        pipeline_qwenimage_edit_plus,
        "calculate_dimensions",
        lambda area, ratio: dimensions(min(area, side**2), ratio),
    )
    sources = [picture(64, 64, 3), picture(96, 48, 4)]
    (theirs,) = call(plus_policy, "Remove", sources, None, None, 1.0, [0], "pil")
    size = plus_policy.sizes_of([{"prompt": "Remove", "source_image": sources}], side, side, True)
    assert size == [(theirs.height, theirs.width)] == [(32, 96)]


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_batch_equals_the_pipelines_batch(policy, guidance_scale):
    # of the condition's size, because the pipeline resizes what its encoder sees for one picture and not for a list
    rows = [row | {"source_image": picture(CONDITION_SIZE, CONDITION_SIZE, i)} for i, row in enumerate(ROWS)]
    ours = sample(policy, rows, 48, 80, 4, guidance_scale, range(3))
    prompts, images = ([row[name] for row in rows] for name in ("prompt", "source_image"))
    theirs = call(policy, prompts, images, 48, 80, guidance_scale, range(3))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_several_references_equal_the_pipelines(plus_policy, guidance_scale):
    rows = [ROWS[0] | {"source_image": [picture(64, 64, 3), picture(96, 48, 4)]}, *ROWS[1:]]
    ours = sample(plus_policy, rows, 48, 80, 4, guidance_scale, range(3))
    for i, row in enumerate(rows):
        theirs = call(plus_policy, row["prompt"], row["source_image"], 48, 80, guidance_scale, [i])
        torch.testing.assert_close(ours[i : i + 1], theirs, atol=1e-5, rtol=0)


def test_decoded_pictures_equal_the_pipelines(policy):
    latents = sample(policy, ROWS[1:2], 48, 80, 4, 4.0, [5])
    (theirs,) = call(policy, ROWS[1]["prompt"], ROWS[1]["source_image"], 48, 80, 4.0, [5], "pil")
    assert_same_picture(policy.decode(latents, 48, 80)[0], theirs)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@pytest.mark.parametrize("name", ["policy", "plus_policy"])
def test_ratio_is_exactly_one_on_policy(request, name, guidance_scale):
    ratios = on_policy_ratios(request.getfixturevalue(name), ROWS, 48, 80, guidance_scale)
    assert torch.equal(ratios, torch.ones_like(ratios))


def test_a_row_is_the_same_whatever_rows_it_meets(policy):
    together = policy.encode(ROWS, 48, 80)
    latents = policy.initial_noise(3, 48, 80, torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.9, 0.5, 0.2])
    transformer = policy.pipeline.transformer
    batch = policy.velocity(transformer, latents, sigma, together, 4.0)
    for i, row in enumerate(ROWS):
        single = policy.velocity(transformer, latents[i : i + 1], sigma[i : i + 1], policy.encode([row], 48, 80), 4.0)
        # no other row has this shape, so the forward is the same to the last bit; the padding of others is trimmed
        assert torch.equal(batch[i : i + 1], single)
        padded = policy.velocity(transformer, latents[i : i + 1], sigma[i : i + 1], alone(together, i), 4.0)
        assert torch.equal(padded, single)


@pytest.mark.parametrize("name", ["policy", "plus_policy"])
def test_attention_needs_no_mask_whatever_the_lengths(request, name):
    policy = request.getfixturevalue(name)
    rows = [*ROWS, ROWS[0]]
    calls, masked, forwards, in_groups = attention_calls(policy, rows, 4.0)
    assert calls > 0
    assert masked == 0
    assert len(forwards) < sum(forwards) == 8  # the two that are alike go together
    policy.masks_padding = True  # then what differs is the shape of the source alone, and branches go together
    _, masked, forwards, together = attention_calls(policy, rows, 4.0)
    policy.masks_padding = False
    assert masked > 0
    assert sorted(forwards) == [2, 2, 4]
    torch.testing.assert_close(together, in_groups, atol=1e-5, rtol=0)


def test_encoder_computes_what_is_read_of_it_one_row_at_a_time(policy):
    """Logits and hidden states of all positions were 24 GB for 32 rows with sources of 1024 × 1024."""
    encoder, seen = policy.pipeline.text_encoder, []
    hooks = [
        encoder.lm_head.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape[:2]))),
        encoder.model.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs.get("output_hidden_states", False)), with_kwargs=True
        ),
    ]
    policy.cache.clear()
    policy.encode(ROWS, 48, 80)
    for hook in hooks:
        hook.remove()
    assert seen == [False, (1, 1)] * 6  # of each row the prompt and the negative one
    # and whoever else asks it gets all that they ask for
    asked = encoder(input_ids=torch.ones(1, 5, dtype=torch.long), output_hidden_states=True)
    assert (asked.logits.shape[1], len(asked.hidden_states)) == (5, 3)


def test_a_source_is_told_apart_by_its_pixels(policy):
    row = ROWS[0]
    assert policy.cache_key(row) == policy.cache_key(row | {"source_image": row["source_image"].copy()})
    assert policy.cache_key(row) != policy.cache_key(row | {"source_image": picture(64, 64, 9)})


@pytest.mark.parametrize(("source", "found"), [
    (None, "None"), ([], r"\[\]"), (picture(64, 64, 0).convert("RGBA"), "RGBA"), ([picture(64, 64, 0)] * 2, "2 source"),
])  # fmt: skip
def test_a_wrong_source_is_told_with_its_prompt(policy, source, found):
    with pytest.raises(ValueError, match=f"'Remove' has .*{found}"):
        policy.encode([{"prompt": "Remove", "source_image": source}], 48, 80)


def test_an_instruction_longer_than_the_transformer_takes_is_told(policy):
    with pytest.raises(ValueError, match=r"begins with 'circle circle.* tokens .* positions for 4091; shorten it"):
        policy.encode([ROWS[0] | {"prompt": "circle " * 4100}], 48, 80)


def test_encoding_leaves_the_global_random_state_alone(policy):
    policy.cache.clear()
    before = torch.get_rng_state()
    policy.encode(ROWS, 48, 80)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_negative_prompt_there_is_no_guidance(policy):
    plain = QwenImageEditPolicy(policy.pipeline, condition_size=CONDITION_SIZE, negative_prompt=None)
    assert plain.call_kwargs(48, 80) == {}
    guided = sample(plain, ROWS[:1], 48, 80, 2, 4.0, [0])
    assert torch.equal(guided, sample(plain, ROWS[:1], 48, 80, 2, 1.0, [0]))
