"""Traces about both pictures of a pair, compared with each other: rewards, advantages, and pairs that stay together."""

import logging

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tiny_judge import build_model, pairs, preset
from transformers import AutoProcessor, TrainerCallback

from arr_trl.judge_training import GCPOConfig, GCPOTrainer, question_rows
from arr_trl.judge_training.gcpo_trainer import PairSampler
from arr_trl.judge_training.trace_rewards import PairRewards, score_of
from arr_trl.runtime import CheckpointError


N = 3
SCORES = preset(read={"tag": "score", "low": 0, "high": 10}, scale=(0, 10))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_model(tmp_path_factory.mktemp("judge") / "model")


class Watched(GCPOTrainer):
    """Keeps what is rewarded and what comes of it; a trace's score is a number read off its letters, or none."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []
        (rewards,) = self.reward_funcs
        rewards.score = lambda text: None if sum(map(ord, text)) % 5 == 0 else sum(map(ord, text)) % 7

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self.seen.append(
            {"pair": [r["pair"] for r in inputs], "side": [r["side"] for r in inputs], "rewards": rewards}
        )
        return rewards

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        self.seen[-1]["advantages"] = output["advantages"]
        return output


def trainer_for(model, output_dir, callbacks=(), **overrides):
    settings = dict(
        output_dir=str(output_dir), per_device_train_batch_size=N, gradient_accumulation_steps=4, num_generations=N,
        max_completion_length=3, max_steps=3, learning_rate=0.01, lr_scheduler_type="constant", logging_steps=1,
        save_strategy="no", use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, gradient_checkpointing=False,
    )  # fmt: skip
    return Watched(
        model,
        args=GCPOConfig(**(settings | overrides)),
        train_dataset=question_rows(pairs(4), SCORES),
        processing_class=AutoProcessor.from_pretrained(model),
        peft_config=LoraConfig(r=4, target_modules=r".*language_model.*\.(q|v)_proj"),
        preset=SCORES,
        callbacks=list(callbacks),
    )


@pytest.fixture(scope="module")
def trained(model, tmp_path_factory):
    trainer = trainer_for(model, tmp_path_factory.mktemp("gcpo"), save_strategy="steps", save_steps=1)
    trainer.train()
    return trainer


def test_both_groups_of_a_pair_have_the_same_mean_reward_and_advantages_are_what_differs_from_it(trained):
    known = 0
    for step in trained.seen:
        rewards = step["rewards"].numpy().reshape(-1, 2, N)
        advantages = step["advantages"].numpy().reshape(-1, 2, N)
        for of_pair, found in zip(rewards, advantages, strict=True):
            if np.isnan(of_pair).all():
                np.testing.assert_array_equal(found, 0)
                continue
            known += 1
            means = np.nanmean(of_pair, 1, keepdims=True)
            assert means[0] == pytest.approx(means[1])
            # a trace without a score pulls nowhere, and the mean is that of the others
            np.testing.assert_allclose(found, np.nan_to_num(of_pair - means), atol=1e-6)
    assert known


def test_the_two_pictures_of_a_pair_are_asked_about_together_and_pairs_change_places(trained):
    for step in trained.seen:
        pair = np.array(step["pair"]).reshape(-1, 2 * N)
        assert (pair == pair[:, :1]).all()
        assert step["side"] == (["chosen"] * N + ["rejected"] * N) * 2
    epochs = [[p for step in trained.seen[:2] for p in step["pair"][:: 2 * N]], trained.seen[2]["pair"][:: 2 * N]]
    assert sorted(epochs[0]) == [0, 1, 2, 3]
    assert epochs[1] != epochs[0][:2]


def test_what_is_told_of_traces_is_what_they_say(trained):
    logged = trained.state.log_history[0]
    assert {"gcpo/separated", "gcpo/inverted", "gcpo/skipped", "gcpo/unreadable", "rewards/gcpo/mean"} <= logged.keys()
    scores = trained.seen[0]["rewards"]
    assert logged["gcpo/unreadable"] <= scores.isnan().float().mean().item()


class Fail(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise ValueError("the disk is gone")


def test_a_run_that_broke_draws_the_same_traces_again(model, trained, tmp_path):
    often = dict(save_strategy="steps", save_steps=1)
    with pytest.raises(ValueError, match="the disk is gone"):
        trainer_for(model, tmp_path, [Fail()], **often).train()
    resumed = trainer_for(model, tmp_path, **often)
    resumed.train(resume_from_checkpoint=True)
    assert len(resumed.seen) == 1
    # of the steps before it is not known what their loss was
    assert "train_loss" not in resumed.state.log_history[-1]
    whole, again = (
        load_file(f"{folder}/checkpoint-3/adapter_model.safetensors") for folder in (trained.args.output_dir, tmp_path)
    )
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_trace_is_the_same_whichever_pairs_are_asked_about_beside_it(trained):
    rows = [trained.train_dataset[i] for i in (2, 3, 6, 7) for _ in range(N)]

    def written(rows):
        output = GCPOTrainer._generate_and_score_completions(trained, rows)
        return [
            ids[mask.bool()].tolist()
            for ids, mask in zip(output["completion_ids"], output["completion_mask"], strict=True)
        ]

    trained.model.train()
    together = written(rows)
    assert written(rows[2 * N :]) == together[2 * N :]
    assert len(set(map(tuple, together))) > 2 * N


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pair_reward": "thurstone"}, "was written with pair_reward=gcpo"),
        ({"num_generations": 2}, "num_generations=3"),
    ],
)
def test_a_checkpoint_of_another_objective_is_refused(model, trained, tmp_path, changes, said):
    checkpoint = f"{trained.args.output_dir}/checkpoint-1"
    with pytest.raises(CheckpointError, match=said):
        trainer_for(model, tmp_path, **changes).train(resume_from_checkpoint=checkpoint)


def test_a_checkpoint_of_another_model_is_refused(trained, tmp_path):
    other = build_model(tmp_path / "model")  # of the same name
    weights = load_file(f"{other}/model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, f"{other}/model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="content of base_model"):
        trainer_for(other, tmp_path / "out").train(resume_from_checkpoint=f"{trained.args.output_dir}/checkpoint-1")


def test_pairs_of_every_process_stay_whole():
    sampler = PairSampler(num_pairs=5, num_generations=2, pairs_per_step=2, repeat_count=3, seed=0)
    rows = np.array(list(sampler)).reshape(-1, 3, 2, 4)  # chunks, micro-steps, pairs, traces
    assert rows.shape[0] == 2
    assert (rows[:, :1] == rows).all()
    assert (rows[..., :2] % 2 == 0).all()
    assert (rows[..., 2:] == rows[..., :2] + 1).all()


def test_a_trace_is_read_as_the_judge_will_be():
    assert score_of(SCORES, "It is red.<score>8</score>") == 0.8
    assert score_of(SCORES, "It is red, 8 of 10.") is None


def test_thurstones_rewards_are_higher_for_traces_that_fit_the_label():
    logged = {}
    rewards = PairRewards(float, "thurstone")(
        [""] * 4, ["9", "5", "4", "6"], [0] * 4, ["chosen"] * 2 + ["rejected"] * 2, log_metric=logged.__setitem__
    )
    assert rewards[0] > rewards[1]
    assert rewards[2] > rewards[3]
    assert logged == {
        "thurstone/separated": 0,
        "thurstone/inverted": 0,
        "thurstone/skipped": 0,
        "thurstone/unreadable": 0,
    }


def test_shares_are_of_pairs_and_traces_of_which_some_cannot_be_read():
    logged = {}
    rewards = PairRewards(lambda text: None if text == "?" else float(text), "gcpo")
    texts = ["9", "8", "1", "2", "1", "2", "?", "?"]
    sides = (["chosen"] * 2 + ["rejected"] * 2) * 2
    rewards(
        [""] * 8, texts, [0] * 4 + [1] * 4, sides, log_metric=lambda name, v: logged.setdefault(name, []).append(v)
    )
    # a value for each of them: processes with fewer pairs do not count as much as those with more
    assert logged == {
        "gcpo/separated": [1.0],
        "gcpo/inverted": [0.0],
        "gcpo/skipped": [0.0, 1.0],
        "gcpo/unreadable": [0.0] * 6 + [1.0] * 2,
    }


def test_that_no_trace_can_be_read_is_told_once_with_a_trace(trained, caplog):
    rewards = PairRewards(lambda text: None, "gcpo")
    for _ in range(2):
        rewards([""] * 4, ["I see red"] * 4, [0] * 4, ["chosen"] * 2 + ["rejected"] * 2, log_metric=lambda *_: None)
    (record,) = caplog.records
    assert "None of 4 traces has a score" in record.getMessage()
    assert "'I see red'" in record.getMessage()
    # TRL's own has a row with its pictures in it, at every step
    logging.getLogger("trl.trainer.grpo_trainer").warning("All reward functions returned None for the following")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gradient_accumulation_steps": 3}, "would split a pair"),
        ({"num_iterations": 2}, "Traces are trained on once"),
        ({"gradient_accumulation_steps": 10}, "There are 4 pairs, and an optimizer step has 5"),
    ],
)
def test_what_would_split_or_lose_pairs_is_refused(model, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        trainer_for(model, tmp_path, **changes)
