"""The RPO objective against hand-made numbers and float64 derivatives."""

import pytest
import torch

from arr_trl.objectives import gaussian_kl, ppo_clip_loss, rpo_advantages, velocity_kl


nan = float("nan")


def test_winner_gets_one_and_loser_minus_a_tenth():
    advantages = rpo_advantages(torch.tensor([[0.2, 0.7], [3.0, -1.0]]))
    torch.testing.assert_close(advantages, torch.tensor([[-0.1, 1.0], [1.0, -0.1]]))


def test_centering_puts_the_pair_around_zero():
    advantages = rpo_advantages(torch.tensor([[0.2, 0.7]]), center=True)
    torch.testing.assert_close(advantages, torch.tensor([[-0.55, 0.55]]))


def test_four_candidates_are_spaced_by_rank_and_equals_share_theirs():
    advantages = rpo_advantages(torch.tensor([[4.0, 1.0, 3.0, 2.0], [5.0, 5.0, 1.0, 0.0]]))
    torch.testing.assert_close(advantages[0], torch.tensor([1.0, -0.1, 1 - 1.1 / 3, 1 - 2.2 / 3]))
    torch.testing.assert_close(advantages[1], torch.tensor([1 - 0.55 / 3, 1 - 0.55 / 3, 1 - 2.2 / 3, -0.1]))


def test_middle_of_three_centered_candidates_is_not_masked():
    torch.testing.assert_close(
        rpo_advantages(torch.tensor([[3.0, 2.0, 1.0]]), center=True), torch.tensor([[0.55, 0.0, -0.55]])
    )


@pytest.mark.parametrize("rewards", [[0.5, 0.5], [nan, 1.0], [nan, nan]])
@pytest.mark.parametrize("center", [False, True])
def test_ties_and_missing_rewards_are_masked_not_scored(rewards, center):
    assert rpo_advantages(torch.tensor([rewards]), center=center).isnan().all()


def test_on_policy_ratio_is_exactly_one_and_gradient_is_minus_advantage():
    log_prob = torch.randn(5, requires_grad=True)
    advantages = torch.tensor([1.0, -0.1, 0.55, -0.55, 0.0])
    loss, ratio = ppo_clip_loss(log_prob, log_prob.detach(), advantages, 0.2)
    loss.sum().backward()
    assert (ratio == 1).all()
    torch.testing.assert_close(log_prob.grad, -advantages)


def test_ppo_clips_where_the_advantage_would_push_further():
    old = torch.zeros(4, dtype=torch.float64)
    log_prob = torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    loss, ratio = ppo_clip_loss(log_prob, old, advantages, 0.2)
    loss.sum().backward()
    expected = [
        max(-a * r, -a * min(max(r, 0.8), 1.2)) for a, r in zip(advantages.tolist(), ratio.tolist(), strict=True)
    ]
    assert loss.tolist() == pytest.approx(expected)
    assert log_prob.grad[0] == 0  # good and already likelier by more than 20%
    assert log_prob.grad[3] == 0  # bad and already less likely by more than 20%
    assert log_prob.grad[1] > 0 > log_prob.grad[2]


def test_gaussian_kl_is_that_of_torch_and_has_its_gradient():
    mean = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    ref_mean = torch.randn(3, 4, 2, dtype=torch.float64)
    std = torch.tensor([0.2, 0.7, 1.4], dtype=torch.float64)
    kl = gaussian_kl(mean, ref_mean, std)
    scale = std[:, None, None].expand_as(mean)
    reference = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, scale), torch.distributions.Normal(ref_mean, scale)
    ).mean((1, 2))
    torch.testing.assert_close(kl, reference)
    kl.sum().backward()
    torch.testing.assert_close(mean.grad, ((mean - ref_mean) / scale**2 / 8).detach())


def test_velocity_kl_is_the_mean_squared_difference():
    velocity, ref_velocity = torch.zeros(2, 3, 4), torch.full((2, 3, 4), 2.0)
    assert velocity_kl(velocity, ref_velocity).tolist() == [4.0, 4.0]
