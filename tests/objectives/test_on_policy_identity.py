"""
At the policy that drew the pictures every loss on finished pictures is advantage-weighted matching: its gradient is
ω·A·∇e, and only ω differs (vector `identity/on_policy`). Tried on a real transformer, to its parameters.
"""

import math

import pytest
import torch

from arr_trl.objectives import awm_loss, crd_loss, dgpo_loss, dpo_loss, matching_error, nft_loss
from arr_trl.policies import FluxPolicy


ADVANTAGES = torch.tensor([[1.0, -0.1, 0.7], [-1.4, math.nan, 0.3]], dtype=torch.float64)
SIGMA = torch.tensor([0.9, 0.55], dtype=torch.float64)
WANTED = ADVANTAGES.nan_to_num()
THERE = ~ADVANTAGES.isnan()
CENTRED = torch.where(THERE, ADVANTAGES - ADVANTAGES.nanmean(1, keepdim=True), 0.0)
# how many of the others a candidate is better than, less how many it is worse than, of n - 1 = 2
WON = torch.tensor([[1.0, -1.0, 0.0], [-0.5, 0.0, 0.5]], dtype=torch.float64)


@pytest.fixture
def forward_points(flux_pipeline):
    """A transformer, its velocities `[R, n, L, C]` with gradient, and what they should be: two rows of three candidates."""
    policy = FluxPolicy(flux_pipeline, max_sequence_length=12)
    rows = [{"prompt": prompt} for prompt in ("a red circle", "a blue square") for _ in range(3)]
    conditioning = policy.encode(rows, 32, 32)
    finished = policy.initial_noise(6, 32, 32, torch.Generator().manual_seed(0)).unflatten(0, (2, 3)) / 2
    noise = policy.initial_noise(2, 32, 32, torch.Generator().manual_seed(1))[:, None]
    level = SIGMA.float().view(2, 1, 1, 1)
    latents = ((1 - level) * finished + level * noise).flatten(0, 1)
    model = flux_pipeline.transformer
    velocity = policy.velocity(model, latents, SIGMA.float().repeat_interleave(3), conditioning, 3.5)
    return model, velocity.double().unflatten(0, (2, 3)), (noise - finished).double()


def test_on_policy_every_forward_loss_is_advantage_weighted_matching(forward_points):
    model, velocity, target = forward_points
    old = velocity.detach()
    error = matching_error(old, target)
    size = (old - target).abs().mean((-2, -1))
    level = SIGMA[:, None]
    points = velocity, old, target, SIGMA, ADVANTAGES
    losses = {  # the loss, and ω·A
        "nft": (nft_loss(*points), level / size * WANTED),
        "nft, β = .1": (nft_loss(*points, beta=0.1), level / size * WANTED),
        "nft, A_max = 2": (nft_loss(*points, advantage_clip=2.0), level / size * WANTED),
        "awm": (awm_loss(*points), WANTED),
        "awm, clipped": (awm_loss(*points, epsilon=1e-4), WANTED),
        "awm, σ": (awm_loss(*points, weighting="sigma"), level * WANTED),
        "awm, σ²": (awm_loss(*points, weighting="sigma2"), level**2 * WANTED),
        "awm, huber": (awm_loss(*points, weighting="huber"), level / (2 * error.sqrt()) * WANTED),
        "awm, ghuber": (awm_loss(*points, weighting="ghuber", power=0.4), level * error**-0.6 * WANTED),
        "dgpo": (dgpo_loss(*points, reference_velocity=old), WANTED / 2),
        "crd": (crd_loss(*points), CENTRED / size),
        "dpo": (dpo_loss(*points, reference_velocity=old, beta=8.0), 8.0 / 4 * WON),
    }
    weight = model.transformer_blocks[0].attn.to_q.weight
    error = matching_error(velocity, target)
    for name, (loss, weighted) in losses.items():
        for leaf, tolerance in (velocity, 1e-7), (weight, 1e-5):  # the transformer's precision is float32
            (expected,) = torch.autograd.grad((weighted * error).sum(), leaf, retain_graph=True)
            (gradient,) = torch.autograd.grad(loss.sum(), leaf, retain_graph=True)
            assert expected.abs().max() > 0
            assert (gradient - expected).abs().max() <= tolerance * expected.abs().max(), name
