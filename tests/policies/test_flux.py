"""The oracle of the FLUX family: what the policy samples without noise is what the pipeline's own `__call__` makes."""

import pytest
import torch
from diffusers import FluxTransformer2DModel

from arr_trl.policies import FluxPolicy
from arr_trl.sampling import denoise


PROMPTS = ["a red circle left of a blue square", "a green triangle above a red square", "something else"]


def sample(policy, rows, height, width, steps, guidance_scale, generator):
    conditioning = policy.encode(rows, height, width)
    noise = policy.initial_noise(len(rows), height, width, generator)
    sigmas = policy.sigmas(steps, height, width)
    return denoise(policy, policy.pipeline.transformer, noise, sigmas, conditioning, guidance_scale)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 64)])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("guidance_embeds", [True, False])
def test_sampling_without_noise_equals_the_pipeline(flux_pipeline, height, width, count, guidance_embeds):
    if not guidance_embeds:  # as in FLUX.1-schnell
        config = {**flux_pipeline.transformer.config, "guidance_embeds": False}
        flux_pipeline.register_modules(transformer=FluxTransformer2DModel.from_config(config).eval())
    policy = FluxPolicy(flux_pipeline, max_sequence_length=12)
    ours = sample(
        policy, [{"prompt": p} for p in PROMPTS[:count]], height, width, 5, 3.5, torch.Generator().manual_seed(7)
    )
    theirs = flux_pipeline(
        PROMPTS[:count],
        height=height,
        width=width,
        num_inference_steps=5,
        guidance_scale=3.5,
        max_sequence_length=12,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_latents_are_on_the_device_though_weights_are_offloaded(flux_pipeline):
    policy = FluxPolicy(flux_pipeline, max_sequence_length=12).to("cpu")
    flux_pipeline.transformer.to("meta")
    noise = policy.initial_noise(1, 32, 32, torch.Generator().manual_seed(0))
    assert noise.device.type == policy.encode([{"prompt": PROMPTS[0]}], 32, 32)["image_ids"].device.type == "cpu"


def test_decoded_pictures_equal_the_pipelines(flux_pipeline):
    policy = FluxPolicy(flux_pipeline, max_sequence_length=12)
    rows = [{"prompt": PROMPTS[0]}]
    latents = sample(policy, rows, 32, 32, 3, 3.5, torch.Generator().manual_seed(1))
    theirs = flux_pipeline(
        PROMPTS[0], height=32, width=32, num_inference_steps=3, max_sequence_length=12,
        generator=torch.Generator().manual_seed(1),
    ).images[0]  # fmt: skip
    assert policy.decode(latents, 32, 32)[0].tobytes() == theirs.tobytes()


def test_one_generator_per_row_gives_each_row_its_own_noise(flux_pipeline):
    policy = FluxPolicy(flux_pipeline)
    together = policy.initial_noise(2, 32, 32, [torch.Generator().manual_seed(s) for s in (3, 4)])
    alone = policy.initial_noise(1, 32, 32, torch.Generator().manual_seed(4))
    assert torch.equal(together[1:], alone)


def test_sigma_may_differ_per_row(flux_pipeline):
    policy = FluxPolicy(flux_pipeline, max_sequence_length=12)
    transformer = flux_pipeline.transformer
    conditioning = policy.encode([{"prompt": PROMPTS[0]}] * 2, 32, 32)
    latents = policy.initial_noise(2, 32, 32, torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.9, 0.2])
    mixed = policy.velocity(transformer, latents, sigma, conditioning, 3.5)
    for i in range(2):
        row = {name: tensor[i : i + 1] for name, tensor in conditioning.items()}
        alone = policy.velocity(transformer, latents[i : i + 1], sigma[i : i + 1], row, 3.5)
        torch.testing.assert_close(mixed[i : i + 1], alone, atol=1e-5, rtol=0)


def test_a_prompt_is_encoded_once_and_the_cache_stays_small(flux_pipeline):
    policy = FluxPolicy(flux_pipeline, max_sequence_length=12, max_cached_prompts=2)
    encoded = []
    flux_pipeline.text_encoder_2.register_forward_pre_hook(
        lambda module, args, kwargs: encoded.append(len(args[0] if args else kwargs["input_ids"])), with_kwargs=True
    )
    rows = [{"prompt": p} for p in PROMPTS]
    first = policy.encode([rows[0], rows[0], rows[1]], 32, 32)
    assert encoded == [2]
    again = policy.encode([rows[1], rows[0]], 32, 32)
    assert encoded == [2]
    assert torch.equal(first["prompt_embeds"][2], again["prompt_embeds"][0])
    policy.encode([rows[2]], 32, 32)  # pushes out the least recently used
    policy.encode([rows[1]], 32, 32)
    assert encoded == [2, 1, 1]


def test_the_pipelines_scheduler_is_left_alone(flux_pipeline):
    before = flux_pipeline.scheduler.sigmas.clone()
    FluxPolicy(flux_pipeline).sigmas(4, 32, 32)
    assert torch.equal(flux_pipeline.scheduler.sigmas, before)
