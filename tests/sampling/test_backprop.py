"""Gradients through chosen steps against `objectives_vectors.json`: a linear velocity, whose chain is written out there."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from arr_trl.sampling import denoise_with_gradient, jump_to_end, leap


VECTOR = json.loads((Path(__file__).parents[1] / "objectives" / "objectives_vectors.json").read_text())["backprop"]
GRADIENTS = VECTOR["loss is -reward; gradients are of the loss"]


class Linear:
    """v(x, σ) = Wx + bσ in float64, for one picture of one token."""

    def __init__(self):
        inputs = {name: torch.tensor(value, dtype=torch.float64) for name, value in VECTOR["inputs"].items()}
        self.W, self.b = inputs["W"].requires_grad_(), inputs["b"].requires_grad_()
        self.sigmas, self.x, self.y = inputs["sigmas"], inputs["x"].view(1, 1, 2), inputs["y"]
        self.calls = 0

    def __call__(self, latents, sigma):
        self.calls += 1
        return latents @ self.W.T + self.b * sigma.view(-1, 1, 1)

    def reward(self, latents):
        return -((latents - self.y) ** 2).mean()

    @torch.no_grad()
    def path(self):
        latents = [self.x]
        for sigma, sigma_next in pairwise(self.sigmas):
            latents.append(latents[-1] + (sigma_next - sigma) * self(latents[-1], sigma[None]))
        return latents

    def assert_gradients(self, reward, expected):
        (-reward).backward()
        torch.testing.assert_close(self.W.grad, torch.tensor(expected["W"], dtype=torch.float64), rtol=1e-9, atol=0)
        torch.testing.assert_close(self.b.grad, torch.tensor(expected["b"], dtype=torch.float64), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("name", "active", "detach_inputs"),
    [
        ("full", [0, 1, 2, 3], False),
        ("draft_k=1", [3], False),
        ("draft_k=2", [2, 3], False),
        ("active=[1,3], chain kept", [1, 3], False),
        ("active=[1,3], inputs detached (DRTune)", [1, 3], True),
    ],
)
def test_active_steps_give_their_terms_of_the_exact_gradient(name, active, detach_inputs):
    v = Linear()
    end = denoise_with_gradient(v, v.x, v.sigmas, active, detach_inputs)
    assert end.flatten().tolist() == pytest.approx(VECTOR["trajectory"][-1], rel=1e-12)
    assert v.reward(end).item() == pytest.approx(VECTOR["reward"], rel=1e-12)
    v.assert_gradients(v.reward(end), GRADIENTS[name])


def test_jump_takes_the_reward_of_what_the_network_expects():
    v, expected = Linear(), GRADIENTS["refl m=2"]
    end = jump_to_end(v, v.path()[2], v.sigmas[2])
    assert v.reward(end).item() == pytest.approx(expected["reward of x0hat"], rel=1e-12)
    v.assert_gradients(v.reward(end), expected)


def test_leaps_keep_the_values_of_the_path_and_discount_the_way_through_both_networks():
    v = Linear()
    path = v.path()
    end = leap(v, (path[1], path[2], path[4]), v.sigmas[[1, 2]], 0.3)
    assert end.flatten().tolist() == pytest.approx(VECTOR["trajectory"][-1], rel=1e-12)
    v.assert_gradients(v.reward(end), GRADIENTS["leap k=1 j=2 alpha=0.3"])


def test_steps_before_the_first_active_one_have_no_graph():
    v = Linear()
    assert denoise_with_gradient(v, v.x, v.sigmas, []).grad_fn is None
    assert v.calls == 4
