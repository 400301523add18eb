"""Who adds nothing to a loss, what stays in the denominator, and in which precision."""

import math

import pytest
import torch

from arr_trl.objectives import (
    awm_loss,
    crd_loss,
    d3po_loss,
    dgpo_loss,
    dpo_loss,
    dppo_loss,
    group_advantages,
    guard_loss,
    nft_loss,
    prdp_loss,
    rank_dpo_loss,
)


nan = math.nan
FORWARD = [nft_loss, awm_loss, dgpo_loss, crd_loss, dpo_loss]
ADVANTAGES = torch.tensor([[1.0, nan, -0.5], [nan, nan, nan], [0.3, 0.2, -0.9]])
SIGMA = torch.tensor([0.9, 0.7, 0.4])


def forward_points(dtype=torch.float32):
    """Velocity, old velocity, target `[3, 3, 2, 4]`, and the reference's."""
    generator = torch.Generator().manual_seed(0)
    velocity, *others = torch.randn(4, 3, 3, 2, 4, generator=generator).to(dtype)
    old, target, reference = (velocity + 0.2 * o for o in others)
    return velocity.requires_grad_(), old, target, reference


def of(loss, points, advantages=ADVANTAGES, sigma=SIGMA):
    velocity, old, target, reference = points
    settings = {"reference_velocity": reference} if loss in (dgpo_loss, dpo_loss) else {}
    return loss(velocity, old, target, sigma, advantages, **settings)


@pytest.mark.parametrize("loss", FORWARD)
def test_masked_candidate_adds_nothing_and_gets_no_gradient(loss):
    points = forward_points()
    losses = of(loss, points)
    losses.sum().backward()
    masked = ADVANTAGES.isnan()
    assert (losses[masked] == 0).all()
    assert (points[0].grad[masked] == 0).all()
    assert (points[0].grad[~masked] != 0).any((-2, -1)).all()


@pytest.mark.parametrize("loss", [nft_loss, awm_loss, crd_loss])
def test_the_others_of_a_row_lose_what_they_would_without_the_masked_one(loss):
    points = forward_points()
    losses = of(loss, points)
    there = [p[:1, [0, 2]] for p in points]
    torch.testing.assert_close(losses[0, [0, 2]], of(loss, there, ADVANTAGES[:1, [0, 2]], SIGMA[:1])[0])


def test_masked_candidate_stays_in_the_denominator_of_its_pairs():
    points = forward_points()
    pair = [p[:1, [0, 2]] for p in points]
    alone = of(dpo_loss, pair, ADVANTAGES[:1, [0, 2]], SIGMA[:1])
    torch.testing.assert_close(of(dpo_loss, points)[0, [0, 2]], alone[0] / 2)


def test_masked_candidate_stays_in_the_denominator_of_its_groups_weight():
    velocity, old, target, reference = forward_points()
    error, ref_error = (((v - target) ** 2).mean((-2, -1)).detach() for v in (velocity, reference))
    wanted = ADVANTAGES.nan_to_num()
    behind = torch.sigmoid((wanted * 100 * (error - ref_error)).sum(1, keepdim=True) / 3)
    torch.testing.assert_close(of(dgpo_loss, (velocity, old, target, reference)), behind * wanted * error)


@pytest.mark.parametrize("loss", FORWARD)
def test_loss_of_half_precision_velocities_is_that_in_float32(loss):
    points = forward_points(torch.bfloat16)
    losses = of(loss, points)
    assert losses.dtype == torch.float32
    wide = of(loss, [p.detach().float().requires_grad_() for p in points])
    assert torch.equal(losses, wide)


@pytest.mark.parametrize("loss", FORWARD)
def test_old_and_reference_velocity_get_no_gradient(loss):
    velocity, *others = forward_points()
    _, old, _, reference = points = [velocity, *(o.detach().requires_grad_() for o in others)]
    of(loss, points).sum().backward()
    assert old.grad is None
    assert reference.grad is None


def test_tie_within_a_row_is_no_pair():
    points = forward_points()
    tied = torch.tensor([[1.0, 1.0, nan]] * 3)
    losses = of(dpo_loss, points, tied)
    losses.sum().backward()
    assert (losses == 0).all()
    assert (points[0].grad == 0).all()


def test_sums_of_rewards_that_differ_by_rounding_are_a_tie():
    points = forward_points()
    rewards = torch.tensor([[[0.1, 0.2], [0.3, 0.0]]] * 3, dtype=torch.float64)
    advantages = group_advantages(rewards, "batch")
    assert (advantages[:, 0] != advantages[:, 1]).all()
    assert (of(dpo_loss, [p[:, :2] for p in points], advantages) == 0).all()


def test_only_the_order_of_advantages_says_who_won():
    points = forward_points()
    stretched = ADVANTAGES * 7 + 2
    assert torch.equal(of(dpo_loss, points), of(dpo_loss, points, stretched))


def test_loss_on_a_perfect_velocity_is_finite_and_so_is_its_gradient():
    target = forward_points()[2]
    for loss in FORWARD:
        exact = target.clone().requires_grad_()
        losses = of(loss, (exact, target, target, target))
        losses.sum().backward()
        assert losses.isfinite().all(), loss.__name__
        assert exact.grad.isfinite().all(), loss.__name__
    for weighting in "huber", "ghuber":
        exact = target.clone().requires_grad_()
        awm_loss(exact, target, target, SIGMA, ADVANTAGES, weighting=weighting).sum().backward()
        assert exact.grad.isfinite().all()


def log_probs():
    return (torch.randn(3, 3, generator=torch.Generator().manual_seed(1)) / 10).requires_grad_()


def trajectory_losses(ell, advantages):
    other = torch.zeros_like(ell)
    mean, old_mean = torch.zeros(3, 2, 4), torch.full((3, 2, 4), 0.01)
    std = torch.full((3,), 0.5)
    return {
        "guard": guard_loss(ell, other, advantages, mean, old_mean, std, SIGMA, SIGMA - 0.1, 0.5)[0],
        "dppo": dppo_loss(ell, other, advantages, mean, old_mean, std, threshold=1.0)[0],
        "d3po": d3po_loss(ell, other, advantages, epsilon=None)[0],
        "prdp": prdp_loss(ell[..., None], other[..., None], other[..., None], advantages, beta=1.0, epsilon=0.1)[0],
    }


@pytest.mark.parametrize("name", ["guard", "dppo", "d3po", "prdp"])
def test_masked_transition_adds_nothing_and_gets_no_gradient(name):
    ell = log_probs()
    losses = trajectory_losses(ell, ADVANTAGES)[name]
    losses.sum().backward()
    masked = ADVANTAGES.isnan()
    assert (losses[masked] == 0).all()
    assert (ell.grad[masked] == 0).all()
    assert (ell.grad[~masked] != 0).all()


@pytest.mark.parametrize("name", ["d3po", "prdp"])
def test_masked_transition_stays_in_the_denominator_of_its_pairs(name):
    ell = log_probs()
    losses = trajectory_losses(ell, ADVANTAGES)[name]
    other = torch.tensor([[1.0, -0.5, nan]] + [[nan] * 3] * 2)
    swapped = trajectory_losses(ell[:, [0, 2, 1]], other)[name]
    torch.testing.assert_close(losses[0, [0, 2]], swapped[0, :2])
    row_of_two = torch.tensor([[1.0, -0.5]])
    pair = ell[:1, [0, 2]]
    zero = torch.zeros_like(pair)
    if name == "d3po":
        alone = d3po_loss(pair, zero, row_of_two, epsilon=None)[0]
    else:
        alone = prdp_loss(pair[..., None], zero[..., None], zero[..., None], row_of_two, beta=1.0, epsilon=0.1)[0]
    torch.testing.assert_close(losses[0, [0, 2]], alone[0] / 2)


def test_one_transition_alone_in_its_row_has_no_pair():
    ell = log_probs()[:, :1]
    assert (d3po_loss(ell, ell.detach(), torch.ones(3, 1))[0] == 0).all()


def test_guard_takes_each_rows_own_noise():
    advantages = torch.ones(3, 3)
    ell, mean, std = log_probs(), torch.zeros(3, 2, 4), torch.tensor([0.2, 0.5, 0.9])
    _, ratio = guard_loss(ell, torch.zeros_like(ell), advantages, mean, mean, std, SIGMA, SIGMA - 0.1, 0.5)
    torch.testing.assert_close(ratio, torch.exp(std[:, None] * ell))


def test_dppo_lets_a_step_come_back_that_is_far_away():
    ell = torch.tensor([[0.1, -0.1, 0.1, -0.1]], requires_grad=True)
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    mean = torch.zeros(1, 2, 4)
    loss, _ = dppo_loss(ell, torch.zeros(1, 4), advantages, mean, mean + 1, torch.ones(1), threshold=1e-5)
    loss.sum().backward()
    assert (ell.grad != 0).tolist() == [[False, True, True, False]]


def test_rank_dpo_weighs_the_exchange_of_best_and_worst_most():
    velocity, _, target, _ = forward_points()
    group = velocity[:1], velocity[:1].detach(), target[:1]
    scores = torch.tensor([[0.9, 0.5, 0.1]])
    (gradient,) = torch.autograd.grad(rank_dpo_loss(*group, scores, beta=10.0).sum(), velocity)
    slope = gradient[0] / (velocity - target)[0]  # dL/de is 2/D of it
    best, middle, worst = slope.mean((-2, -1)).tolist()
    assert best > abs(middle)
    assert worst < 0 < best
    tied = rank_dpo_loss(*group, torch.full((1, 3), 0.5), beta=10.0)
    assert tied.tolist() == [0.0]
