"""The loss of a micro-batch, and the window that is drawn: each number from the tensors that went in."""

import copy
import math
from collections import Counter

import pytest
import torch
from test_arithmetic import PROMPTS, build, flux_recipe

from arr_trl.trainer.buffer import random_at
from arr_trl.trainer.trajectory_trainer import draw_window


ROWS = [{"prompt": PROMPTS[0]}, {"prompt": PROMPTS[1]}]  # of two candidates and two trained steps: 8 transitions
DECIDED = [[1.0, -0.1], [-0.1, 1.0]]
nan = math.nan


def away_from_the_base(trainer):
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    return trainer


def batch_of(trainer, advantages):
    """The one micro-batch of a rollout whose candidates are worth `advantages`."""
    ((batch,),) = trainer._batches(trainer._sample(ROWS), torch.tensor(advantages))
    return batch


@pytest.mark.parametrize(
    "settings",
    [{"kl_type": "closed_form"}, {"kl_type": "log_ratio"}, {"sde_type": "cps", "noise_level": 0.8}],
    ids=["closed_form", "log_ratio", "closed_form of cps"],
)
def test_gradient_of_the_penalty_is_the_slope_of_the_penalty(flux_pipeline, tmp_path, settings):
    trainer = away_from_the_base(build(flux_pipeline, tmp_path, beta=10.0, **settings))
    batch = batch_of(trainer, [[0.0, 0.0], [0.0, 0.0]])  # so that nothing but the penalty has a gradient
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    trainer._loss_of_rows(trainer.model, batch).backward()
    gradient = [p.grad.clone() for p in trained]
    norm = torch.stack([g.norm() for g in gradient]).norm().item()
    assert norm > 0

    @torch.no_grad()
    def loss_at(distance):
        """The loss at that distance along the gradient."""
        for p, g in zip(trained, gradient, strict=True):
            p.add_(g, alpha=distance / norm)
        loss = trainer._loss_of_rows(trainer.model, batch).item()
        for p, g in zip(trained, gradient, strict=True):
            p.sub_(g, alpha=distance / norm)
        return loss

    slope = (loss_at(0.02) - loss_at(-0.02)) / 0.04
    assert slope == pytest.approx(norm, rel=0.05)


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_pair_that_says_nothing_makes_the_step_no_larger(flux_pipeline, tmp_path, beta):
    trainer = away_from_the_base(build(flux_pipeline, tmp_path, beta=beta))
    masked = [nan, nan]
    both, first, second = (
        trainer._loss_of_rows(trainer.model, batch_of(trainer, advantages)).item()
        for advantages in (DECIDED, [DECIDED[0], masked], [masked, DECIDED[1]])
    )
    if beta == 0:  # two steps of each of two pairs, over the 8 transitions of the batch
        assert both == pytest.approx(-(1.0 - 0.1) * 4 / 8, rel=1e-5)
    assert first + second == pytest.approx(both, rel=1e-4)


def test_ratio_is_against_the_stored_log_probability_once_the_policy_has_moved(flux_pipeline, tmp_path):
    losses = {}
    for iterations in (1, 2):
        pipeline = copy.deepcopy(flux_pipeline)
        trainer = build(pipeline, tmp_path, beta=0.0, epsilon=0.2, num_iterations=iterations)
        batch = batch_of(trainer, DECIDED)
        for shift in (0.0, 0.1, 1.0):
            inputs = batch | {"log_prob": batch["log_prob"] - shift}
            losses[iterations, shift] = trainer._loss_of_rows(trainer.model, inputs).item()
    winners, losers = -1.0 * 4 / 8, 0.1 * 4 / 8
    assert losses[2, 0.0] == pytest.approx(winners + losers, rel=1e-3)
    assert losses[2, 0.1] == pytest.approx((winners + losers) * math.exp(0.1), rel=1e-3)
    assert losses[2, 1.0] == pytest.approx(winners * 1.2 + losers * math.exp(1.0), rel=1e-3)  # clipped where it helps
    # on-policy the stored one is passed over: there the ratio is 1 whatever the two passes made of it
    assert losses[1, 0.0] == losses[1, 0.1] == losses[1, 1.0]


@pytest.mark.parametrize(
    ("window", "starts"),
    [
        ({"sde_window_size": 2}, [0, 1, 2, 3, 4, 5]),  # steps 0 to 6 of eight
        ({"sde_window_size": 1, "sde_window_range": [2, 5]}, [2, 3, 4]),
        ({"sde_window_size": 2, "sde_window_range": [1, 4]}, [1, 2]),
        ({"sde_window_range": [4, 6]}, [4]),
    ],
)
def test_window_is_drawn_from_every_place_of_its_range_alike(window, starts):
    args = flux_recipe(**window)
    drawn = [draw_window(args, random_at(0, rollout)) for rollout in range(1200)]
    assert {len(steps) for steps in drawn} == {args.window_size}
    counts = Counter(steps.start for steps in drawn)
    assert sorted(counts) == starts
    assert min(counts.values()) > 0.7 * len(drawn) / len(starts)
