"""What every family's oracle needs: the policy's own sampling, and pictures to edit."""

from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from arr_trl.sampling import denoise, rollout, transition
from arr_trl.sampling import log_prob as transition_log_prob


def picture(width: int, height: int, seed: int) -> Image.Image:
    """A smooth picture, the same for the same arguments."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def assert_same_picture(ours: Image.Image, theirs: Image.Image) -> None:
    """To one level of 255: where a value is rounded may depend on the order of two products."""
    assert ours.size == theirs.size
    assert abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int)).max() <= 1


def sample(policy, rows, height, width, steps, guidance_scale, seeds):
    """Latents that the policy samples without noise, each row from the noise of its own seed."""
    noise = policy.initial_noise(len(rows), height, width, [torch.Generator().manual_seed(seed) for seed in seeds])
    sigmas = policy.sigmas(steps, height, width)
    return denoise(
        policy, policy.pipeline.transformer, noise, sigmas, policy.encode(rows, height, width), guidance_scale
    )


def alone(conditioning, i):
    """Row `i` of a batch's conditioning."""
    return {name: tensor[i : i + 1] for name, tensor in conditioning.items()}


def on_policy_ratios(policy, rows, height, width, guidance_scale, num_generations=2, row_by_row=False):
    """
    ρ of every stored transition of a rollout, from a training pass with unchanged weights over the same batch, or over
    one row at a time.
    """
    model = policy.pipeline.transformer
    conditioning = policy.encode(rows, height, width)
    generator = torch.Generator().manual_seed(0)
    noise = policy.initial_noise(len(rows) * num_generations, height, width, generator)
    num_steps = 2
    step_noise = torch.randn(len(rows), num_generations, num_steps, *noise.shape[1:], generator=generator)
    sigmas = policy.sigmas(4, height, width)
    sampled = rollout(policy, model, noise, step_noise, sigmas, conditioning, 0, "dance", 0.3, guidance_scale).rows
    ratios = []
    batch_size = 1 if row_by_row else len(noise)
    for start in range(0, num_steps * len(noise), batch_size):
        stored = {name: tensor[start : start + batch_size] for name, tensor in sampled.items()}
        velocity = policy.velocity(
            model,
            stored["latents"],
            stored["sigma"],
            {name: tensor[stored["prompt"]] for name, tensor in conditioning.items()},
            guidance_scale,
        )
        mean, std = transition(stored["latents"], velocity, stored["sigma"], stored["sigma_next"], 0.3, "dance")
        log_prob = transition_log_prob(stored["next_latents"], mean[:, None], std[:, None])
        ratios.append(torch.exp(log_prob - stored["log_prob"]))
    return torch.cat(ratios).detach()


def attention_calls(policy, rows, guidance_scale, height=48, width=80):
    """How many calls of attention a velocity has, those with a mask, and the rows of each forward."""
    transformer, attend = policy.pipeline.transformer, torch.nn.functional.scaled_dot_product_attention
    masked, forwards = [], []

    def count(*args, attn_mask=None, **kwargs):
        masked.append(attn_mask is not None)
        return attend(*args, attn_mask=attn_mask, **kwargs)

    def count_forward(module, args, kwargs):
        forwards.append(len(next(iter(kwargs.values()))))

    hook = transformer.register_forward_pre_hook(count_forward, with_kwargs=True)
    conditioning = policy.encode(rows, height, width)
    latents = policy.initial_noise(len(rows), height, width, torch.Generator().manual_seed(0))
    with torch.no_grad(), patch("torch.nn.functional.scaled_dot_product_attention", count):
        velocity = policy.velocity(transformer, latents, torch.full((len(rows),), 0.5), conditioning, guidance_scale)
    hook.remove()
    return len(masked), sum(masked), forwards, velocity
