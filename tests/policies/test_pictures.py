"""From latents to pixels with a gradient, and from given pictures to the latents of the same pipeline."""

import pytest
import torch
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from oracle import picture
from tiny_newer_pipelines import build_flux_fill, build_krea2, build_longcat_image, build_lumina2
from tiny_pipelines import build_flux, build_flux2, build_flux_kontext, build_qwen_image, build_sd3, build_z_image

from arr_trl.policies import FlowPolicy, FluxPolicy, policy_for


HEIGHT, WIDTH = 32, 96


def like_flux(pipeline):
    """With the numbers of FLUX.1's own autoencoder, since 0 and 1 would hide how they are used."""
    pipeline.vae.register_to_config(shift_factor=0.1159, scaling_factor=0.3611)
    return pipeline


def scaled(pipeline, pixels):
    mode = pipeline.vae.encode(pixels).latent_dist.mode()
    return pipeline.vae.config.scaling_factor * (mode - pipeline.vae.config.shift_factor)


def patches(latents):
    """`[B, C, h, w]` as 2×2 patches of all channels, row by row."""
    return torch.nn.functional.unfold(latents, kernel_size=2, stride=2).transpose(1, 2)


def pixels_as_tokens(latents):
    return latents.permute(0, 2, 3, 1).reshape(len(latents), -1, latents.shape[1])


def standardized(pipeline, pixels):
    mode = pipeline.vae.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0]
    mean, std = (torch.tensor(pipeline.vae.config[f"latents_{name}"])[:, None, None] for name in ("mean", "std"))
    return (mode - mean) / std


# pipeline, and what makes latents of pixels: the pipeline's own method where it encodes pictures, written out elsewhere
FAMILIES = {
    "flux": (lambda: like_flux(build_flux()), lambda p, x: patches(scaled(p, x))),
    "kontext": (lambda: like_flux(build_flux_kontext()), lambda p, x: patches(p._encode_vae_image(x, None))),
    "flux2": (build_flux2, lambda p, x: pixels_as_tokens(p._encode_vae_image(x, None))),
    "klein": (lambda: build_flux2(klein=True), lambda p, x: pixels_as_tokens(p._encode_vae_image(x, None))),
    "qwen": (build_qwen_image, lambda p, x: patches(standardized(p, x))),
    "qwen edit": (
        lambda: build_qwen_image(0, QwenImageEditPipeline),
        lambda p, x: patches(p._encode_vae_image(x[:, :, None], None)[:, :, 0]),
    ),
    "qwen edit plus": (
        lambda: build_qwen_image(0, QwenImageEditPlusPipeline),
        lambda p, x: patches(p._encode_vae_image(x[:, :, None], None)[:, :, 0]),
    ),
    "sd3": (build_sd3, lambda p, x: pixels_as_tokens(scaled(p, x))),
    "z_image": (build_z_image, lambda p, x: pixels_as_tokens(scaled(p, x))),
    "fill": (lambda: like_flux(build_flux_fill()), lambda p, x: patches(scaled(p, x))),
    "krea2": (build_krea2, lambda p, x: patches(standardized(p, x))),
    "longcat": (build_longcat_image, lambda p, x: patches(scaled(p, x))),
    "lumina2": (build_lumina2, lambda p, x: pixels_as_tokens(scaled(p, x))),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """A policy, and what makes latents of pixels for it."""
    build, encode = FAMILIES[request.param]
    return policy_for(build()), encode


@pytest.fixture
def pictures(family):
    """Two pictures of the size that is drawn, and their pixels."""
    images = [picture(WIDTH, HEIGHT, seed) for seed in (0, 1)]
    return images, family[0].pipeline.image_processor.preprocess(images)


def test_given_pictures_become_the_latents_that_the_pipeline_makes_of_them(family, pictures):
    policy, encode = family
    images, pixels = pictures
    latents = policy.encode_pictures(images, HEIGHT, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(latents, encode(policy.pipeline, pixels), atol=1e-5, rtol=0)
    noise = policy.initial_noise(2, HEIGHT, WIDTH, torch.Generator().manual_seed(0))
    assert latents.shape == noise.shape
    assert latents.dtype == torch.float32
    assert latents.is_contiguous()
    assert not latents.requires_grad


def test_latents_of_pictures_are_turned_back_into_what_the_autoencoder_makes_of_them(family, pictures):
    policy, _ = family
    images, pixels = pictures
    vae = policy.pipeline.vae
    with torch.no_grad():
        ours = policy.to_pixels(policy.encode_pictures(images, HEIGHT, WIDTH), HEIGHT, WIDTH)
        film = pixels[:, :, None] if vae.config.get("temperal_downsample") else pixels
        theirs = vae.decode(vae.encode(film).latent_dist.mode(), return_dict=False)[0]
    assert ours.shape == (2, 3, HEIGHT, WIDTH)
    torch.testing.assert_close(ours, theirs.reshape(ours.shape), atol=3e-5, rtol=0)


def test_given_pictures_are_resized_and_always_give_the_same(family):
    policy, _ = family
    large = picture(2 * WIDTH, 3 * HEIGHT, 2)
    resized = policy.pipeline.image_processor.resize(large, HEIGHT, WIDTH)
    latents = policy.encode_pictures([large], HEIGHT, WIDTH)
    assert torch.equal(latents, policy.encode_pictures([large], HEIGHT, WIDTH))
    assert torch.equal(latents, policy.encode_pictures([resized], HEIGHT, WIDTH))


def test_gradient_of_pixels_reaches_every_latent(family):
    policy, _ = family
    generator = torch.Generator().manual_seed(0)
    latents = policy.initial_noise(2, HEIGHT, WIDTH, generator).requires_grad_()
    weights = torch.randn(2, 3, HEIGHT, WIDTH, generator=generator)

    def score(latents):
        return (policy.to_pixels(latents, HEIGHT, WIDTH) * weights).sum()

    (gradient,) = torch.autograd.grad(score(latents), latents)
    assert gradient.ne(0).all()
    # the slope along the gradient, from two pictures without one
    step = 0.01 * gradient / gradient.norm()
    with torch.no_grad():
        slope = (score(latents + step) - score(latents - step)) / (2 * step.norm())
    assert slope.item() == pytest.approx(gradient.norm().item(), rel=2e-2)


def test_decoding_is_the_pixels_without_a_gradient(family):
    policy, _ = family
    latents = policy.initial_noise(2, HEIGHT, WIDTH, torch.Generator().manual_seed(1)).requires_grad_()
    pixels = policy.to_pixels(latents, HEIGHT, WIDTH).detach()
    levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    for image, row in zip(policy.decode(latents, HEIGHT, WIDTH), levels, strict=True):
        assert image.tobytes() == row.numpy().tobytes()


def test_autoencoder_in_bfloat16_gives_latents_in_float32():
    pipeline = like_flux(build_flux())
    pipeline.vae.to(torch.bfloat16)
    latents = FluxPolicy(pipeline).encode_pictures([picture(32, 32, 0)], 32, 32)
    assert latents.dtype == torch.float32
    assert torch.equal(latents, latents.bfloat16().float())


def test_family_that_cannot_encode_pictures_says_what_to_write(flux_pipeline):
    class Own(FluxPolicy):
        to_latents = FlowPolicy.to_latents

    policy = Own(flux_pipeline)
    assert len(policy.decode(policy.initial_noise(1, 32, 32, torch.Generator()), 32, 32)) == 1
    with pytest.raises(NotImplementedError, match=r"^Own cannot encode pictures.* define `to_latents\(pixels\)`"):
        policy.encode_pictures([picture(32, 32, 0)], 32, 32)


@pytest.mark.parametrize(("side", "expected"), [(256, [16]), (512, [4, 4, 4, 4]), (768, [1] * 16), (1024, [1] * 16)])
def test_pictures_are_decoded_a_few_at_a_time_however_many_were_drawn(side, expected):
    """64 of 1024 × 1024 at once would take a hundred gigabytes, for which no card has room beside the network."""
    policy, asked = FluxPolicy(build_flux()), []

    def to_pixels(latents, height, width):
        asked.append(len(latents))
        return latents[:, :1, :1, None].expand(-1, 3, 2, 2)

    policy.to_pixels = to_pixels
    shades = torch.linspace(-1, 1, 16)[:, None, None]
    images = policy.decode(shades, side, side)
    assert asked == expected
    found = [image.getpixel((0, 0))[0] for image in images]
    assert found == sorted(found)
    assert len(set(found)) == 16
