"""The three transitions and their log-probability against formulas written out again, number by number, in float64."""

import math

import pytest
import torch

from arr_trl.sampling import euler_step, log_prob, transition


def expected(sde_type, x, v, s, s_next, a):
    """Mean and deviation of one scalar, after the papers."""
    dt = s_next - s
    if sde_type == "cps":
        std = s_next * math.sin(a * math.pi / 2)
        return (1 - s_next) * (x - s * v) + math.sqrt(s_next**2 - std**2) * (x + (1 - s) * v), std
    g = a if sde_type == "dance" else a * math.sqrt(s / (1 - (s_next if s == 1.0 else s)))
    return x + v * dt + g**2 / (2 * s) * (x + (1 - s) * v) * dt, g * math.sqrt(-dt)


@pytest.mark.parametrize(("sde_type", "noise_level"), [("flow", 0.9), ("dance", 0.3), ("cps", 0.8)])
def test_transition_and_log_prob_follow_the_formulas(sde_type, noise_level):
    generator = torch.Generator().manual_seed(0)
    x, v, x_next = (torch.randn(4, 3, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    sigma = torch.tensor([1.0, 0.93, 0.5, 0.2], dtype=torch.float64)
    sigma_next = torch.tensor([0.93, 0.8, 0.3, 0.05], dtype=torch.float64)

    mean, std = transition(x, v, sigma, sigma_next, noise_level, sde_type)
    density = log_prob(x_next, mean, std)

    for b in range(4):
        terms = []
        for i in range(3):
            for j in range(2):
                m, s = expected(
                    sde_type, x[b, i, j].item(), v[b, i, j].item(), sigma[b].item(), sigma_next[b].item(), noise_level
                )
                assert mean[b, i, j].item() == pytest.approx(m, abs=1e-12)
                assert std[b].item() == pytest.approx(s, abs=1e-12)
                deviation = (x_next[b, i, j].item() - m) / s
                terms.append(-0.5 * deviation**2 - math.log(s) - 0.5 * math.log(2 * math.pi))
        assert density[b].item() == pytest.approx(sum(terms) / len(terms), abs=1e-10)


def test_log_prob_is_that_of_torch():
    x, mean = torch.randn(2, 5, 4, dtype=torch.float64), torch.randn(2, 5, 4, dtype=torch.float64)
    std = torch.tensor([0.3, 1.7], dtype=torch.float64)
    reference = torch.distributions.Normal(mean, std[:, None, None]).log_prob(x).mean((1, 2))
    torch.testing.assert_close(log_prob(x, mean, std), reference)


def test_transition_without_noise_is_the_euler_step():
    x, v = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    sigma, sigma_next = torch.tensor([1.0, 0.6]), torch.tensor([0.8, 0.3])
    for sde_type in ("flow", "dance", "cps"):
        mean, std = transition(x, v, sigma, sigma_next, 0.0, sde_type)
        torch.testing.assert_close(mean, euler_step(x, v, sigma, sigma_next))
        assert (std == 0).all()


def test_cps_leaves_exactly_the_noise_of_the_schedule():
    # with the true velocity of x = (1-σ)·data + σ·ε, a step has to land on noise of deviation σ'
    generator = torch.Generator().manual_seed(0)
    data, noise = torch.zeros(1, 200_000, 1), torch.randn(1, 200_000, 1, generator=generator)
    sigma, sigma_next = torch.tensor([0.9]), torch.tensor([0.6])
    mean, std = transition(0.1 * data + 0.9 * noise, noise - data, sigma, sigma_next, 0.8, "cps")
    stepped = mean + std * torch.randn(mean.shape, generator=generator)
    assert stepped.std().item() == pytest.approx(0.6, abs=5e-3)
