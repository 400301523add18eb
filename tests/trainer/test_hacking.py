"""Rewards that are gamed are noticed, and those that are not are left in peace."""

import math

import pytest
import torch
from test_diffusion_nft_trainer import build, config

from arr_trl.trainer import FlowConfig
from arr_trl.trainer.hacking import HackingCallback, agreement, signs


nan = math.nan


def brightness(prompts, completions, **columns):
    return [float(image.convert("L").resize((1, 1)).getpixel((0, 0))) for image in completions]


def darkness(prompts, completions, log_metric, **columns):
    log_metric("asked", len(completions))
    return [-value for value in brightness(prompts, completions)]


def test_pairs_that_both_decide_are_compared():
    rewards = torch.tensor([[1.0, 0.0, 0.5], [nan, 0.0, 1.0], [1.0, 1.0, 0.0]])
    watched = torch.tensor([[2.0, 3.0, 1.0], [0.0, 0.0, 9.0], [0.0, 1.0, nan]])
    # first group: 0 over 1 (not alike), 0 over 2 (alike), 2 over 1 (not alike); second: 2 over 1; third: nothing
    assert sorted(agreement(rewards, watched)) == [0.0, 0.0, 1.0, 1.0]


def test_watched_function_is_measured_and_moves_nothing(flux_pipeline, tmp_path):
    trainers = {}
    for watch in (None, darkness):
        trainers[watch] = build(
            flux_pipeline, tmp_path, brightness, max_steps=3, logging_steps=1, watch_every=2, watch_funcs=watch
        )
        trainers[watch].train()
    for one, other in zip(*(trainer.model.parameters() for trainer in trainers.values()), strict=True):
        assert torch.equal(one, other)
    logs = [entry for entry in trainers[darkness].state.log_history if "loss" in entry]
    assert [entry.get("watch/darkness/agreement") for entry in logs] == [0.0, None, 0.0]
    assert logs[0]["watch/darkness/mean"] == -logs[0]["rewards/brightness/mean"]
    assert "asked" not in logs[0]
    for entry in logs:
        assert entry["pictures/saturation"] > 0
    assert logs[0]["pictures/histogram_distance"] == 0
    assert logs[2]["pictures/histogram_distance"] > 0


def test_watched_function_is_asked_in_the_evaluation(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, brightness, watch_funcs=[darkness], learning_rate=0.1, max_steps=2)
    trainer.eval_dataset = trainer.train_dataset
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_watch/darkness/win_rate"] == pytest.approx(1 - metrics["eval_win_rate"])
    assert metrics["eval_pictures/saturation"] != metrics["eval_pictures/saturation_of_base"]
    assert 0 < metrics["eval_pictures/histogram_distance"] <= 1


def test_resumed_run_measures_colors_from_the_first_pictures_of_all(flux_pipeline, tmp_path):
    settings = dict(max_steps=4, logging_steps=1, save_strategy="steps", save_steps=2)
    whole = build(flux_pipeline, tmp_path, **settings)
    whole.train()
    resumed = build(flux_pipeline, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    for name in ("pictures/histogram_distance", "pictures/sharpness"):
        curves = [[e[name] for e in trainer.state.log_history if name in e] for trainer in (whole, resumed)]
        assert curves[0] == curves[1]


def logs(**curves):
    return [dict(zip(curves, values, strict=True)) for values in zip(*curves.values(), strict=True)]


def test_verdicts_that_part_are_told_once(caplog):
    history = logs(**{"watch/judge/agreement": [0.9, 0.9, 0.85, 0.8, 0.7, 0.65]})
    (sentence,) = signs(history).values()
    assert "judge agrees with the reward on 72% of the pairs" in sentence
    assert "88% at the start" in sentence
    callback = HackingCallback()
    state = type("State", (), {"is_world_process_zero": True, "log_history": history, "global_step": 6})
    for _ in range(3):
        callback.on_log(FlowConfig(output_dir="unused", use_cpu=True, bf16=False), state, None)
    assert caplog.text.count("agrees with the reward") == 1


@pytest.mark.parametrize("agreements", [[0.9] * 20, [0.7, 0.6, 0.8, 0.65, 0.7, 0.62, 0.6], [0.9, 0.2, 0.9, 0.9]])
def test_verdicts_that_stay_together(agreements):
    assert signs(logs(**{"watch/judge/agreement": agreements})) == {}


def test_win_rates_that_part():
    (sentence,) = signs(
        logs(**{"eval_win_rate": [0.6, 0.7, 0.75], "eval_watch/judge/win_rate": [0.58, 0.62, 0.55]})
    ).values()
    assert "prefers the trained model in 55%" in sentence
    assert signs(logs(**{"eval_win_rate": [0.6, 0.7, 0.6], "eval_watch/judge/win_rate": [0.58, 0.62, 0.55]})) == {}


def test_reward_that_rises_while_the_judge_turns_away():
    rewards = {"eval_reward": [1.0, 2.0, 3.0]}
    (sentence,) = signs(logs(**rewards, eval_win_rate=[0.6, 0.7, 0.6])).values()
    assert "preferred in 60% of the evaluation's prompts, after 70% at its best" in sentence
    assert signs(logs(**rewards, eval_win_rate=[0.6, 0.7, 0.7])) == {}
    # where the reward falls too, it is not followed into what the judge does not like
    assert signs(logs(eval_reward=[1.0, 3.0, 2.0], eval_win_rate=[0.6, 0.7, 0.6])) == {}


def test_pictures_that_run_away():
    assert "saturation of the pictures is 0.4 and was 0.2" in signs(
        logs(**{"pictures/saturation": [0.2] * 3 + [0.3] * 3 + [0.4] * 3})
    )["saturation"]  # fmt: skip
    assert "sharpness" in signs(logs(**{"pictures/sharpness": [0.2] * 3 + [0.1] * 3}))  # blur, too
    assert signs(logs(**{"pictures/contrast": [0.2] * 3 + [0.25] * 9})) == {}
    assert "other" in signs(logs(**{"pictures/histogram_distance": [0.0, 0.3, 0.3, 0.3]}))["colors"]


def test_watched_function_that_fails_ends_nothing(flux_pipeline, tmp_path, caplog):
    def broken(prompts, completions, **columns):
        raise ConnectionError("the scorer is gone")

    trainer = build(flux_pipeline, tmp_path, brightness, max_steps=2, watch_every=1, watch_funcs=broken)
    trainer.train()
    assert trainer.state.global_step == 2
    assert "What is only watched failed (ConnectionError: the scorer is gone)" in caplog.text


def test_few_pictures_say_little(tmp_path):
    history = logs(**{"pictures/saturation": [0.2] * 6 + [0.4] * 3})
    state = type("State", (), {"is_world_process_zero": True, "log_history": history, "global_step": 9})
    for pictures, warned in ((6, set()), (96, {"saturation"})):
        args = config(tmp_path, per_device_train_batch_size=2 * pictures)
        callback = HackingCallback()
        callback.on_log(args, state, None)
        assert callback.warnings.keys() == warned
