"""Advantages by distance: of the whole batch whoever has it, without those that nothing is known of."""

import math

import pytest
import torch
from accelerate import Accelerator
from test_flow_grpo_trainer import build


nan = math.nan
REWARDS = torch.tensor([[1.0, 0.0, 0.5, 0.5], [0.2, 0.1, nan, 0.0], [0.3, 0.3, 0.3, 0.3], [5.0, nan, nan, nan]])


def test_group_is_compared_by_those_it_has(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, scale_rewards="none")
    advantages = trainer._compute_advantages(REWARDS.view(-1, 1))
    expected = torch.tensor([[0.5, -0.5, 0, 0], [0.1, 0, nan, -0.1], [nan] * 4, [nan] * 4])
    torch.testing.assert_close(advantages, expected, equal_nan=True)


def test_deviation_of_the_batch_is_of_all_processes(flux_pipeline, tmp_path, monkeypatch):
    trainer = build(flux_pipeline, tmp_path)
    alone = trainer._compute_advantages(REWARDS.view(-1, 1))
    # the second of two processes, which gathers the rewards of the first before its own
    monkeypatch.setattr(Accelerator, "process_index", 1)
    monkeypatch.setattr(Accelerator, "gather", lambda self, own: torch.cat([REWARDS[:2, :, None], own]))
    assert torch.equal(trainer._compute_advantages(REWARDS[2:].reshape(-1, 1)).nan_to_num(9), alone[2:].nan_to_num(9))


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_large_numbers_drown_the_others_unless_each_is_normalised(flux_pipeline, tmp_path, aggregation):
    def large(completions, **columns):
        return [0.0] * len(completions)

    trainer = build(flux_pipeline, tmp_path, [large, large], multi_objective_aggregation=aggregation)
    small_wins = torch.tensor([[0.0, 1.0], [100.0, 0.0], [50.0, 1.0], [50.0, 0.0]])
    advantages = trainer._compute_advantages(torch.cat([small_wins, small_wins.flip(0)]))[0]
    assert advantages.argmax() == (1 if aggregation == "sum_then_normalize" else 2)


def test_filtered_groups_are_masked(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, scale_rewards="none", min_reward_std=0.1, max_reward_mean=0.9)
    rewards = torch.tensor([[1.0, 0.0, 0.5, 0.5], [0.5, 0.51, 0.5, 0.5], [1.0, 1.0, 1.0, 0.7], [0.0, 0.0, 0.0, 1.0]])
    advantages = trainer._compute_advantages(rewards.view(-1, 1))
    assert advantages.isnan().all(1).tolist() == [False, True, True, False]


def test_far_outliers_count_as_much_as_the_clip(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, scale_rewards="none", advantage_clip=2.0)
    advantages = trainer._compute_advantages(torch.tensor([[0.0], [0.0], [0.0], [100.0]]))
    assert advantages.tolist() == [[-2.0, -2.0, -2.0, 2.0]]


def test_who_is_left_out_is_in_no_statistic_of_its_group(flux_pipeline, tmp_path):
    def of_two(completions, **columns):
        return [0.0] * len(completions)

    trainer = build(flux_pipeline, tmp_path, [of_two, of_two], scale_rewards="none", min_reward_std=0.05)
    rewards = torch.tensor([[0.5, 0.45], [0.5, 0.45], [0.51, 0.45], [0.5, nan]])
    assert trainer._compute_advantages(rewards.repeat(2, 1)).isnan().all()
    assert trainer._metrics["train"]["reward_std"][0] == pytest.approx(0.01 * math.sqrt(2) / 3, rel=1e-4)


def test_infinite_reward_is_no_reward_and_empties_no_batch(flux_pipeline, tmp_path):
    def one_explodes(prompts, completions, **columns):
        return [math.inf if i == 0 else float(i) for i in range(len(completions))]

    trainer = build(flux_pipeline, tmp_path, one_explodes, max_steps=1, logging_steps=1)
    trainer.train()
    (log,) = [entry for entry in trainer.state.log_history if "rollout/decided_rate" in entry]
    assert log["rollout/decided_rate"] == 1
    assert log["rewards/one_explodes/missing_rate"] == 1 / 8
