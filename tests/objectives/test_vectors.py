"""
Every loss and advantage against `objectives_vectors.json`: float64 values and gradients that were written out from the
formulas in numpy, each gradient held against central differences there. Losses agree to 1e-9, gradients to 1e-6 of the
candidate's largest.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from arr_trl.objectives import (
    awm_loss,
    crd_loss,
    d3po_loss,
    dgpo_loss,
    dpo_loss,
    dppo_loss,
    filter_groups,
    gaussian_kl,
    group_advantages,
    guard_loss,
    implicit_rewards,
    log_tame,
    nft_loss,
    pareto_front,
    ppo_clip_loss,
    prdp_loss,
    rank_dpo_loss,
    sdpo_loss,
    velocity_kl,
    win_rates,
)
from arr_trl.sampling import log_prob, transition


VECTORS = json.loads((Path(__file__).parent / "objectives_vectors.json").read_text(encoding="utf-8"))
TRANSITIONS = ["flow", "dance", "cps"]
TRAJECTORY = ["ppo_clip", "grpo_guard", "flow_dppo", "d3po", "prdp"]
FORWARD = ["nft", "awm", "dgpo", "crd", "dpo"]
GIVEN = ["sdpo", "rank_dpo"]
LOSSES = [n for n in VECTORS if n.split("/")[0] in (*TRAJECTORY, *FORWARD, *GIVEN, "kl")]
BY_NAME = [
    "advantages/grpo",
    "advantages/grpo_of_two",
    "advantages/pref_grpo",
    "advantages/multi_reward",
    "advantages/group_filter",
    "identity/step_weights",
    "identity/on_policy",
]
NOT_HERE = {
    "checks (largest relative difference from central differences)": "how the vectors were checked",
    "fdfo": "paired trajectories are an experiment of their own",
    "fdfo/on_policy": "paired trajectories are an experiment of their own",
    "backprop": "steps of a sampler, held in sampling/test_backprop.py",
    "weights": "the old policy and the average are weights of a trainer, not objectives",
    "noise_levels": "the trainer draws them from its pipeline's schedule",
}


def numbers(nested) -> torch.Tensor:
    """Float64, `None` as NaN."""
    return torch.from_numpy(np.array(nested, dtype=float))


class Vector(dict):
    """A vector's inputs, its lists as float64 tensors; `rows(name)` has the candidates of a group, two, in a row."""

    def __init__(self, name):
        inputs = VECTORS[name]["inputs"]
        super().__init__({k: numbers(v) if isinstance(v, list) else v for k, v in inputs.items()})
        self["v"].requires_grad_()

    def rows(self, name):
        return self[name].unflatten(0, (2, 2))


def step(vector, velocity):
    """μ `[B, L, C]`, s `[B]` and ℓ `[B]` of the step that a velocity takes."""
    mean, std = transition(
        vector["x"], velocity, vector["sigma"], vector["sigma_next"], vector["noise_level"], vector["sde_type"]
    )
    return mean, std, log_prob(vector["x_next"], mean, std)


def trajectory_loss(name, vector):
    """The loss of a vector and the ratios; one candidate leaves each of its four rows, or they are two pairs."""
    family = name.split("/")[0]
    mean, std, ell = step(vector, vector["v"])
    old_mean, _, old_ell = step(vector, vector["v_old"])
    advantages = vector["advantages"]
    if family == "ppo_clip":
        loss, ratio = ppo_clip_loss(ell, old_ell, advantages, vector["epsilon"])
    elif family in ("grpo_guard", "flow_dppo"):
        of_rows = [t[:, None] for t in (ell, old_ell, advantages)]
        if family == "grpo_guard":
            sigmas = vector["sigma"], vector["sigma_next"]
            loss, ratio = guard_loss(*of_rows, mean, old_mean, std, *sigmas, vector["epsilon"])
            if name.endswith("undivided"):
                loss = loss * (sigmas[0] - sigmas[1])[:, None]
        else:
            loss, ratio = dppo_loss(*of_rows, mean, old_mean, std, vector["kl_mask_threshold"])
    else:
        ref_ell = step(vector, vector["v_ref"])[2]
        if family == "d3po":  # rows 0 and 1 are a winner and its loser, 2 and 3 another pair
            pairs = [t.view(2, 2) for t in (ell, ref_ell)]
            loss, ratio = d3po_loss(*pairs, torch.tensor([[1.0, -1.0]] * 2), vector["beta"], vector["clip"])
            return loss.sum(1).mean(), ratio.flatten()
        # rows 0 and 1 are two steps of one candidate, 2 and 3 two of the other
        steps = [t.view(1, 2, 2) for t in (ell, old_ell, ref_ell)]
        difference = torch.tensor([[vector["reward_difference"], 0.0]], dtype=torch.float64)
        loss, ratio = prdp_loss(*steps, difference, vector["beta"], vector["epsilon"])
        return loss.sum(), ratio.flatten()
    return loss.mean(), ratio.flatten()


def forward_arguments(vector):
    x0, sigma = vector.rows("x0"), vector.rows("sigma")[:, 0]
    target = vector.rows("eps") - x0
    return vector.rows("v"), vector.rows("v_old") if "v_old" in vector else vector.rows("v"), target, sigma


def forward_loss(name, vector):
    """The loss of a vector: four candidates, two of each of two rows."""
    family = name.split("/")[0]
    arguments = forward_arguments(vector)
    if family in ("sdpo", "rank_dpo"):
        velocity, _, target, _ = arguments
        if family == "sdpo":
            loss = sdpo_loss(velocity, vector.rows("v_ref"), target, vector["beta"], vector["mu"])
            return loss.mean()
        group = [t.reshape(1, 4, *t.shape[2:]) for t in (velocity, vector.rows("v_ref"), target)]
        return rank_dpo_loss(*group, vector["phi"][None], vector["beta"]).sum()
    if family == "dpo":
        loss = dpo_loss(
            *arguments, numbers([[1.0, -1.0]] * 2), reference_velocity=vector.rows("v_ref"), beta=vector["beta"]
        )
        return loss.sum() / 2  # pairs
    arguments = (*arguments, vector.rows("advantages"))
    if family == "nft":
        loss = nft_loss(*arguments, beta=vector["beta"], advantage_clip=vector["adv_clip_max"])
    elif family == "crd":
        loss = crd_loss(*arguments, beta=vector["beta"], advantage_clip=vector["adv_clip_max"])
    elif family == "awm":
        loss = awm_loss(*arguments, weighting=vector["weighting"], epsilon=vector["epsilon"])
    else:
        loss = dgpo_loss(
            *arguments, reference_velocity=vector.rows("v_ref"), beta=vector["beta"], epsilon=vector["clip"]
        )
    return loss.mean()


def loss_of(name):
    """The loss of a vector, its ratios where there are some, and the gradient in v."""
    vector, ratio = Vector(name), None
    if name == "kl/velocity":
        loss = velocity_kl(vector["v"], vector["v_ref"]).mean()
    elif name == "kl/closed_form":
        mean, std, _ = step(vector, vector["v"])
        loss = gaussian_kl(mean, step(vector, vector["v_ref"])[0], std).mean()
    elif name.split("/")[0] in TRAJECTORY:
        loss, ratio = trajectory_loss(name, vector)
    else:
        loss = forward_loss(name, vector)
    (gradient,) = torch.autograd.grad(loss, vector["v"])
    return loss.item(), ratio, gradient


def test_every_vector_is_tried_or_its_absence_has_a_reason():
    tried = {*LOSSES, *BY_NAME, *(f"transition/{kind}" for kind in TRANSITIONS)}
    assert tried | NOT_HERE.keys() == VECTORS.keys()
    assert not tried & NOT_HERE.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_equal_the_vector(name):
    loss, ratio, gradient = loss_of(name)
    assert loss == pytest.approx(VECTORS[name]["loss"], abs=1e-9, rel=1e-9)
    expected = numbers(VECTORS[name]["grad_v"])
    # of each candidate by itself: the pair that `sdpo` scales has lost already, and its gradient is 1e-27
    assert ((gradient - expected).abs().amax((1, 2)) <= 1e-6 * expected.abs().amax((1, 2))).all()
    if "ratio" in VECTORS[name] and ratio is not None:
        torch.testing.assert_close(ratio, torch.tensor(VECTORS[name]["ratio"], dtype=torch.float64))


@pytest.mark.parametrize("kind", TRANSITIONS)
def test_noisy_step_equals_the_vector(kind):
    vector = {k: numbers(v) if isinstance(v, list) else v for k, v in VECTORS[f"transition/{kind}"].items()}
    velocity = vector["v"].requires_grad_()
    mean, std = transition(velocity=velocity, latents=vector["x"], sigma=vector["sigma"],
                           sigma_next=vector["sigma_next"], noise_level=vector["noise_level"], sde_type=kind)  # fmt: skip
    torch.testing.assert_close(mean, vector["mean"], atol=1e-9, rtol=0)
    torch.testing.assert_close(std, vector["std"], atol=1e-9, rtol=0)
    torch.testing.assert_close(
        log_prob(vector["x_next"], mean, std), vector["log_prob"], atol=1e-9, rtol=1e-9, check_dtype=False
    )
    (slope,) = torch.autograd.grad(mean.sum(), velocity)
    torch.testing.assert_close(slope[:, 0, 0], vector["d mean / d v"], atol=1e-9, rtol=0)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_z_scores_equal_the_vector(scale):
    vector = VECTORS["advantages/grpo"]
    # The vector masks a whole group for one missing reward, which stands in its last row. Here the others are compared,
    # tests/objectives/test_advantages.py.
    advantages = group_advantages(numbers(vector["rewards"])[:2], scale)
    torch.testing.assert_close(advantages, numbers(vector[f"scale={scale}"])[:2], atol=1e-9, rtol=0)


def test_two_candidates_equal_the_vector():
    vector = VECTORS["advantages/grpo_of_two"]
    advantages = group_advantages(numbers(vector["rewards"]), "group")
    torch.testing.assert_close(advantages, numbers(vector["scale=group"]), atol=1e-9, rtol=0)


@pytest.mark.parametrize("failed", [None, (1, 3)])
def test_win_rates_equal_the_vector(failed):
    vector = VECTORS["advantages/pref_grpo"]
    comparisons = torch.full((1, 4, 4), math.nan, dtype=torch.float64)
    for i, j, wins in vector["pairs (i, j, P(i wins))"]:
        if (i, j) != failed:
            comparisons[0, i, j], comparisons[0, j, i] = wins, 1 - wins
    rates = win_rates(comparisons)
    expected = vector["win_rate" if failed is None else "win_rate without the verdict on (1, 3)"]
    torch.testing.assert_close(rates[0], torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)
    if failed is None:
        torch.testing.assert_close(
            group_advantages(rates, "group"), numbers([vector["advantages"]]), atol=1e-9, rtol=0
        )


def test_several_rewards_equal_the_vector():
    vector = VECTORS["advantages/multi_reward"]
    rewards, weights = numbers(vector["rewards"]), numbers(vector["weights"])
    tamed = log_tame(rewards)
    group = {"scale_rewards": "group", "weights": weights}
    separately = {"multi_objective_aggregation": "normalize_then_sum", "weights": weights}
    for name, advantages in {
        "gdpo": group_advantages(rewards, "batch", **separately),
        "gdpo before batch normalisation": group_advantages(rewards, "none", **separately),
        "weighted_sum": group_advantages(rewards, **group),
        "log_tame sum": (tamed * weights).sum(-1),
        "log_tame advantages": group_advantages(tamed, **group),
    }.items():
        torch.testing.assert_close(advantages, numbers(vector[name]), atol=1e-9, rtol=0, msg=name)
    for k, swing in enumerate(vector["log_tame h"]):
        assert torch.equal(log_tame(rewards, swing + 1e-9)[..., k], rewards[..., k])
        assert not torch.equal(log_tame(rewards, swing - 1e-9)[..., k], rewards[..., k])
    assert pareto_front(rewards).tolist() == vector["pareto"]


def test_group_filter_equals_the_vector():
    vector = VECTORS["advantages/group_filter"]
    rewards = numbers(vector["rewards"])
    kept = filter_groups(torch.ones_like(rewards), rewards, min_std=0.05, max_mean=0.9)
    assert (~kept.isnan()).all(1).tolist() == (~kept.isnan()).any(1).tolist() == vector["kept"]
    for p, (std, mean) in enumerate(zip(vector["std"], vector["mean"], strict=True)):
        for limits, expected in ((std - 1e-9, mean + 1e-9), True), ((std + 1e-9, 1.0), False), ((0.0, mean), False):
            assert (not filter_groups(rewards, rewards, *limits)[p].isnan().any()) is expected


@pytest.mark.parametrize("name", [n for n in LOSSES if n.startswith("dpo/")])
def test_implicit_rewards_equal_the_vector(name):
    vector = Vector(name)
    velocity, _, target, _ = forward_arguments(vector)
    rewards = implicit_rewards(velocity, vector.rows("v_ref"), target, vector["beta"])
    torch.testing.assert_close(rewards.flatten(), numbers([VECTORS[name]["implicit_reward"]])[0], atol=1e-9, rtol=1e-9)
    margin = rewards[:, 0] - rewards[:, 1]
    torch.testing.assert_close(margin, numbers([VECTORS[name]["inside"]])[0], atol=1e-9, rtol=1e-9)
    accuracy = ((margin > 0) + 0.5 * (margin == 0)).mean()
    assert accuracy.item() == VECTORS[name]["implicit_accuracy"]


def test_clipped_and_masked_steps_are_those_of_the_vector():
    for name in LOSSES:
        expected = VECTORS[name].get("clipped", [not kept for kept in VECTORS[name].get("kept", ())])
        if name.split("/")[0] in TRAJECTORY and expected:
            assert (loss_of(name)[2] == 0).all(2).all(1).tolist() == expected, name


def test_on_policy_a_guarded_step_weighs_the_same_at_every_noise_level():
    vector = VECTORS["identity/step_weights"]
    sigma, sigma_next = numbers([vector["sigma"], vector["sigma_next"]])
    x, noise, velocity = torch.randn(3, 4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    velocity.requires_grad_()
    mean, std = transition(x, velocity, sigma, sigma_next, vector["flow, a"], "flow")
    ell = log_prob((mean + std[:, None, None] * noise).detach(), mean, std)[:, None]
    ones = torch.ones_like(ell)
    for name, loss in {
        "ppo c/s": ppo_clip_loss(ell, ell.detach(), ones, 0.2)[0],
        "guard c/-dt": guard_loss(ell, ell.detach(), ones, mean, mean, std, sigma, sigma_next, 0.2)[0],
    }.items():
        (gradient,) = torch.autograd.grad(loss.sum(), velocity, retain_graph=True)
        # -A·z·(c / s) / D, and c < 0
        torch.testing.assert_close(gradient, noise * numbers([vector[name]])[0][:, None, None] / 6)
