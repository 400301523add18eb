"""Rollouts on a tiny real FLUX: what the candidates of a prompt share is computed once, and changes no result."""

import copy
from itertools import product

import pytest
import torch

from arr_trl.policies import FluxPolicy
from arr_trl.sampling import log_prob, rollout, transition


ROWS = [{"prompt": "a red circle left of a blue square"}, {"prompt": "a green triangle above a red square"}]
START, STEPS, N, W = 1, 5, 3, 2


@pytest.fixture
def policy(flux_pipeline):
    return FluxPolicy(flux_pipeline, max_sequence_length=12)


def sample(policy, initial_noise, step_noise, rows=ROWS, device="cpu"):
    sigmas = policy.sigmas(STEPS, 32, 32).to(device)
    conditioning = {name: tensor.to(device) for name, tensor in policy.encode(rows, 32, 32).items()}
    model = policy.pipeline.transformer
    return rollout(policy, model, initial_noise, step_noise, sigmas, conditioning, START, "flow", 0.7, 3.5)


def noise(policy, shared=True):
    generator = torch.Generator().manual_seed(0)
    initial = policy.initial_noise(len(ROWS) if shared else len(ROWS) * N, 32, 32, generator)
    return initial, torch.randn(len(ROWS), N, W, *initial.shape[1:], generator=generator)


def test_shared_forwards_give_each_candidate_what_it_gets_alone(policy):
    initial, steps = noise(policy)
    together = sample(policy, initial, steps)
    for p, k in product(range(len(ROWS)), range(N)):
        alone = sample(policy, initial[p : p + 1], steps[p : p + 1, k : k + 1], ROWS[p : p + 1])
        torch.testing.assert_close(together.latents[p * N + k], alone.latents[0], atol=1e-5, rtol=1e-5)


def test_same_initial_noise_for_all_candidates_equals_shared_noise(policy):
    initial, steps = noise(policy)
    shared = sample(policy, initial, steps)
    separate = sample(policy, initial.repeat_interleave(N, 0), steps)
    torch.testing.assert_close(shared.latents, separate.latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_every_transition_is_kept_once_with_the_row_it_left_from(policy, shared):
    initial, steps = noise(policy, shared)
    kept = sample(policy, initial, steps).rows
    parted = len(ROWS) if shared else len(ROWS) * N
    assert len(kept["latents"]) == parted + len(ROWS) * N * (W - 1)
    places = [
        (p, k, sigma)
        for p, candidates, sigma in zip(
            kept["prompt"].tolist(), kept["candidate"].tolist(), kept["sigma"].tolist(), strict=True
        )
        for k in candidates
        if k >= 0
    ]
    sigmas = policy.sigmas(STEPS, 32, 32)[START : START + W].tolist()
    assert sorted(places) == sorted(product(range(len(ROWS)), range(N), sigmas))


def test_stored_log_probabilities_are_those_of_the_stored_steps(policy):
    kept = sample(policy, *noise(policy)).rows
    conditioning = {name: tensor[kept["prompt"]] for name, tensor in policy.encode(ROWS, 32, 32).items()}
    with torch.no_grad():
        velocity = policy.velocity(policy.pipeline.transformer, kept["latents"], kept["sigma"], conditioning, 3.5)
    mean, std = transition(kept["latents"], velocity, kept["sigma"], kept["sigma_next"], 0.7, "flow")
    expected = log_prob(kept["next_latents"], mean[:, None], std[:, None])
    filled = kept["candidate"] >= 0
    torch.testing.assert_close(kept["log_prob"][filled], expected[filled], atol=1e-5, rtol=1e-5)


def test_each_noisy_step_of_each_candidate_carries_the_noise_drawn_for_it(policy):
    initial, steps = noise(policy)
    kept = sample(policy, initial, steps).rows
    conditioning = {name: tensor[kept["prompt"]] for name, tensor in policy.encode(ROWS, 32, 32).items()}
    with torch.no_grad():
        velocity = policy.velocity(policy.pipeline.transformer, kept["latents"], kept["sigma"], conditioning, 3.5)
    mean, std = transition(kept["latents"], velocity, kept["sigma"], kept["sigma_next"], 0.7, "flow")
    sigmas = policy.sigmas(STEPS, 32, 32).tolist()
    for row, slot in (kept["candidate"] >= 0).nonzero().tolist():
        step = sigmas.index(kept["sigma"][row].item()) - START
        carried = (kept["next_latents"][row, slot] - mean[row]) / std[row]
        expected = steps[kept["prompt"][row], kept["candidate"][row, slot], step]
        torch.testing.assert_close(carried, expected, atol=1e-4, rtol=1e-4)


def test_rollout_never_waits_for_the_device(policy):
    # tensors on the meta device have no values: reading one, which on a GPU means waiting for it, raises
    initial, steps = noise(policy)
    conditioning = policy.encode(ROWS, 32, 32)
    other = copy.copy(policy)
    other.pipeline.transformer.to("meta")
    other.encode = lambda rows, height, width: conditioning
    sampled = sample(other, initial.to("meta"), steps.to("meta"), device="meta")
    assert sampled.latents.shape == (len(ROWS) * N, *initial.shape[1:])
