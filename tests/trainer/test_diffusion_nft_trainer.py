"""Training on noised finished pictures: what is drawn, what it costs, what is masked, and what a checkpoint keeps."""

import copy
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from test_arithmetic import PROMPTS, count_backwards, first_wins, second_prompt_ties
from test_editing import edits
from tiny_pipelines import build_qwen_image

from arr_trl import DiffusionNFTConfig, DiffusionNFTTrainer
from arr_trl.sampling import add_noise, denoise
from arr_trl.trainer.cost import forward_point_forwards
from arr_trl.trainer.diffusion_nft_trainer import levels_to_train
from arr_trl.trainer.frozen_adapters import OLD, use_frozen_copy
from arr_trl.trainer.measured import numbers


LOSSES = ("nft", "awm", "dgpo", "crd", "dpo")
ROWS = [{"prompt": prompt} for prompt in PROMPTS[:2]]


# of a run on a tiny pipeline that ends after one step
SMALL = dict(
    height=32,
    width=32,
    max_sequence_length=12,
    num_inference_steps=4,
    eval_num_inference_steps=2,
    gradient_accumulation_steps=1,
    max_steps=1,
    learning_rate=1e-2,
    logging_steps=100,
    bf16=False,
    use_cpu=True,
    report_to=[],
    save_strategy="no",
    gradient_checkpointing=False,
    disable_tqdm=True,
)


def config(tmp_path, **overrides):
    own = dict(
        output_dir=str(tmp_path / "out"),
        num_generations=3,
        num_train_points=2,
        per_device_train_batch_size=12,
        beta=0.0,
    )
    return DiffusionNFTConfig(**{**SMALL, **own, **overrides})


def build(pipeline, tmp_path, reward=first_wins, dataset=None, watch_funcs=None, **overrides):
    return DiffusionNFTTrainer(
        model=copy.deepcopy(pipeline),
        reward_funcs=reward,
        args=config(tmp_path, **overrides),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}) if dataset is None else dataset,
        peft_config=LoraConfig(r=2, lora_alpha=4),
        watch_funcs=watch_funcs,
    )


def away(trainer):
    """The trained adapter, which is at first no adapter at all, moved."""
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if "lora_B.default" in name:
                p.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    return trainer


# What it costs


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"num_train_points": 1, "per_device_train_batch_size": 6},
        {"beta": 0.1},
        {"loss_type": "dgpo"},
        {"loss_type": "dpo", "beta": 0.1},
        {"logging_steps": 1},
        {"old_policy_decay": 0.5},
        {"num_iterations": 2, "max_steps": 2, "beta": 0.1},
        {
            "steps_per_generation": 4,
            "gradient_accumulation_steps": 2,
            "per_device_train_batch_size": 3,
            "max_steps": 2,
        },
        {"rollout_batch_size": 1},
    ],
    ids=lambda overrides: ",".join(f"{k}={v}" for k, v in overrides.items()) or "default",
)
def test_counted_passes_are_those_of_the_formula(flux_pipeline, tmp_path, overrides):
    trainer = build(flux_pipeline, tmp_path, **overrides)
    backwards = count_backwards(trainer)
    trainer.train()
    expected = forward_point_forwards(trainer.args, prompts=trainer.args.prompts_per_rollout)
    # with beta=0 the distance is still measured where a log follows
    measured = expected.training if trainer.args.logging_steps == 1 else 0
    assert trainer.transformer_forwards == expected.sampling + expected.training + expected.reference + measured
    assert sum(backwards) == expected.training
    # with beta=0 the distance is still measured where a log follows, which is not in what a step is said to cost
    steps = trainer.args.max_steps
    assert trainer.passes_per_step() * steps == trainer.transformer_forwards + sum(backwards) - measured


@pytest.mark.parametrize("cfg", ["both", "rollout", "off"])
def test_second_branch_of_guidance_counts_where_it_is_used(tmp_path, cfg):
    trainer = build(build_qwen_image(), tmp_path, classifier_free_guidance=cfg, guidance_scale=4.0)
    backwards = count_backwards(trainer)
    trainer.train()
    expected = forward_point_forwards(trainer.args, prompts=2, guided=True)
    assert trainer.transformer_forwards + sum(backwards) == expected.total


def test_masked_prompts_are_sampled_and_not_trained_on(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, second_prompt_ties)
    backwards = count_backwards(trainer)
    trainer.train()
    expected = forward_point_forwards(trainer.args, prompts=2, decided=1)
    assert trainer.transformer_forwards + sum(backwards) == expected.total
    assert sum(backwards) == 3 * 2


def test_batch_arithmetic_is_told_in_words(flux_pipeline, tmp_path):
    assert build(flux_pipeline, tmp_path).batch_arithmetic() == (
        "rollout         2 prompts × 3 candidates = 6 images\n"
        "loss            2 of 4 noise levels trained = 12 points\n"
        "optimizer step  1 of 12 points\n"
        "transformer     24 passes for each prompt\n"
        "unseen          2 of 4 prompts are never seen with these settings"
    )


# What is drawn


def test_candidates_are_drawn_without_noise_each_from_its_own(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path)
    part = trainer._sample(ROWS).parts[0]
    policy, drawn = trainer.policy, part["x0"].view(2, 2, 3, *part["x0"].shape[2:])
    assert torch.equal(drawn[:, 0], drawn[:, 1])  # both points of a picture are of that picture
    generators = [torch.Generator().manual_seed(0)] * 6
    noise = policy.initial_noise(6, 32, 32, generators)
    sigmas = policy.sigmas(4, 32, 32)
    conditioning = {name: t.repeat_interleave(3, 0) for name, t in policy.encode(ROWS, 32, 32).items()}
    ends = denoise(policy, trainer.model, noise, sigmas, conditioning, trainer.args.guidance_scale)
    assert ends.shape == drawn[:, 0].flatten(0, 1).shape
    distances = torch.cdist(drawn[:, 0].flatten(2), drawn[:, 0].flatten(2))
    assert (distances[~torch.eye(3, dtype=torch.bool).expand(2, 3, 3)] > 1).all()


def test_candidates_by_noisy_steps_end_elsewhere_on_noise_of_their_own(flux_pipeline, tmp_path):
    ends = {}
    for level in (0.0, 1e-6, 0.8):
        part = build(flux_pipeline, tmp_path, noise_level=level)._sample(ROWS).parts[0]
        ends[level] = part["x0"].view(2, 2, 3, *part["x0"].shape[2:])[:, 0]
    torch.testing.assert_close(ends[1e-6], ends[0.0], atol=1e-4, rtol=1e-4)
    moved = (ends[0.8] - ends[0.0]).flatten(2)
    assert (moved.norm(dim=2) > 1).all()
    # not by the same noise for all candidates of a prompt
    assert (torch.pdist(moved[0]) > 1).all()


def test_levels_are_of_the_schedule_s_noisy_part_one_from_each_of_its_parts(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, num_inference_steps=8, timestep_range=0.7)
    schedule = trainer.policy.sigmas(8, 32, 32)
    levels = levels_to_train(schedule, 0.7, 2)
    assert (levels >= 0.3).all()
    assert len(levels) == int(((schedule[:-1]) >= 0.3).sum())
    seen = set()
    for step in range(40):
        trainer._step = step
        for part in trainer._sample(ROWS).parts:
            places = [(levels == sigma).nonzero().item() for sigma in part["sigma"]]
            assert max(places[::2]) < len(levels) / 2
            assert min(places[1::2]) >= len(levels) // 2  # of an odd number the middle one is in both halves
            seen |= set(places)
    assert seen == set(range(len(levels)))  # the last one, too


def test_points_are_noise_and_picture_in_the_shares_of_their_level():
    x0, noise = torch.randn(2, 3, 4, 5), torch.randn(2, 4, 5)
    latents, target = add_noise(x0, noise, torch.tensor([1.0, 0.25]))
    torch.testing.assert_close(latents[0], noise[0].expand(3, 4, 5))
    torch.testing.assert_close(latents[1], 0.75 * x0[1] + 0.25 * noise[1])
    # along the target for the whole level one comes back to the picture
    torch.testing.assert_close(latents[1] - 0.25 * target[1], x0[1])


def test_more_points_than_levels_are_refused(flux_pipeline, tmp_path):
    with pytest.raises(ValueError, match=r"timestep_range=0.1 leaves 1 of 4 noise levels, and num_train_points=2"):
        build(flux_pipeline, tmp_path, timestep_range=0.1)


# What is learned


def batch_of(trainer, advantages):
    ((batch,),) = trainer._batches(trainer._sample(ROWS), torch.tensor(advantages))
    return batch


@pytest.mark.parametrize("loss_type", LOSSES)
def test_better_candidates_are_matched_better_after_a_step(flux_pipeline, tmp_path, loss_type):
    trainer = build(flux_pipeline, tmp_path, loss_type=loss_type)
    batch = batch_of(trainer, [[1.0, 0.0, -1.0], [-1.0, 0.0, 1.0]])

    @torch.no_grad()
    def gap():
        """How much worse the losers are matched than the winners."""
        latents, target = add_noise(batch["x0"], batch["noise"], batch["sigma"])
        error = ((trainer._velocity_of_groups(trainer.model, latents, batch) - target) ** 2).mean((-2, -1))
        return -(error * batch["advantages"]).sum().item()

    before = gap()
    optimizer = torch.optim.SGD([p for p in trainer.model.parameters() if p.requires_grad], lr=1.0)
    trainer._loss_of_rows(trainer.model, batch).backward()
    optimizer.step()
    assert gap() > before


@pytest.mark.parametrize("loss_type", LOSSES)
def test_candidate_that_no_judge_answered_for_moves_nothing(flux_pipeline, tmp_path, loss_type):
    nan = float("nan")
    trainer = away(build(flux_pipeline, tmp_path, loss_type=loss_type, beta=0.1))
    batch = batch_of(trainer, [[1.0, -1.0, nan], [nan, nan, nan]])
    assert len(batch["x0"]) == 2  # both points of the first prompt
    losses = []
    for scale in (1.0, 3.0):
        other = {name: t for name, t in batch.items() if name not in ("ref_velocity", "old_velocity")}
        other["x0"] = batch["x0"].clone()
        other["x0"][:, 2] *= scale
        losses.append(trainer._loss_of_rows(trainer.model, other).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != 0


@pytest.mark.parametrize(
    ("pipeline", "loss_type"),
    [
        *(("flux", loss_type) for loss_type in LOSSES),
        ("qwen_image_edit", LOSSES[0]),
        *(pytest.param("qwen_image_edit", loss_type, marks=pytest.mark.slow) for loss_type in LOSSES[1:]),
    ],
)
def test_every_loss_trains(flux_pipeline, tmp_path, loss_type, pipeline):
    if pipeline == "flux":
        trainer = build(flux_pipeline, tmp_path, loss_type=loss_type, logging_steps=1, max_steps=2)
    else:
        from diffusers import QwenImageEditPipeline

        model = build_qwen_image(pipeline_class=QwenImageEditPipeline)
        trainer = build(
            model, tmp_path, dataset=edits(), loss_type=loss_type, logging_steps=1, max_steps=2, condition_size=64,
            max_sequence_length=None,
        )  # fmt: skip
    before = [p.clone() for p in trainer.model.parameters() if p.requires_grad]
    trainer.train()
    after = [p for p in trainer.model.parameters() if p.requires_grad]
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    (log, _) = [entry for entry in trainer.state.log_history if "policy/matching_error" in entry]
    assert log["policy/kl"] == 0  # the first step begins at the base
    thirds = [value for name, value in log.items() if name.startswith("policy/matching_error/")]
    assert min(thirds) < log["policy/matching_error"] < max(thirds)


def test_penalty_is_the_distance_from_the_reference(flux_pipeline, tmp_path):
    trainer = away(build(flux_pipeline, tmp_path))
    batch = batch_of(trainer, [[1.0, 0.0, -1.0], [-1.0, 0.0, 1.0]])
    without = trainer._loss_of_rows(trainer.model, dict(batch)).item()
    trainer.args.beta = 1e4
    trainer._metrics["train"].clear()
    penalised = trainer._loss_of_rows(trainer.model, dict(batch)).item()
    kl = numbers(trainer._metrics["train"]["policy/kl"])
    assert len(kl) == 12
    assert penalised - without == pytest.approx(1e4 * sum(kl) / 12, rel=1e-4)
    assert sum(kl) > 0


# The old policy


def lora_b(trainer, adapter):
    return {
        name.replace(f".{adapter}.", "."): p.clone()
        for name, p in trainer.model.named_parameters()
        if f"lora_B.{adapter}." in name
    }


def test_old_policy_draws_and_follows_by_the_ramp(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, old_policy_decay=0.5, old_policy_ramp=0.4)
    before = lora_b(trainer, OLD)
    away(trainer)
    drawn = trainer._sample(ROWS).parts[0]["x0"]
    with use_frozen_copy(trainer.model, OLD):
        by_hand = build(flux_pipeline, tmp_path)._sample(ROWS).parts[0]["x0"]
    torch.testing.assert_close(drawn, by_hand)  # as the base, which the old policy still is

    trained = lora_b(trainer, "default")
    for step, keep in ((1, 0.4), (2, 0.5)):  # .8 is more than the decay allows
        trainer._step = trainer.state.global_step = step
        trainer._sample(ROWS)
        for name, value in lora_b(trainer, OLD).items():
            torch.testing.assert_close(value, keep * before[name] + (1 - keep) * trained[name])
        before = lora_b(trainer, OLD)


def test_old_policy_is_kept_only_where_it_is_another():
    def keeps(**overrides):
        return config(Path("unused"), **overrides).keeps_old_policy

    assert not keeps()
    assert not keeps(gradient_accumulation_steps=2, steps_per_generation=1)
    assert keeps(old_policy_decay=0.5)
    assert keeps(steps_per_generation=2)
    assert keeps(num_iterations=2)
    assert not keeps(pipelined_judge=True)


@pytest.mark.parametrize("settings", [
    {"old_policy_decay": 0.5, "old_policy_ramp": 0.2},
    {"steps_per_generation": 2, "per_device_train_batch_size": 6},
    pytest.param({"num_iterations": 2, "beta": 0.1, "logging_steps": 1}, marks=pytest.mark.slow),
    pytest.param({"pipelined_judge": True}, marks=pytest.mark.slow),
])  # fmt: skip
def test_resumed_run_equals_the_uninterrupted_one(flux_pipeline, tmp_path, settings):
    settings = dict(max_steps=5, save_strategy="steps", save_steps=1, **settings)
    whole = build(flux_pipeline, tmp_path, **settings)
    whole.train()
    for step in (1, 2):  # at the beginning of a rollout, and between two steps on one
        resumed = build(flux_pipeline, tmp_path, **settings)
        resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{step}"))
        parameters = dict(resumed.model.named_parameters())
        assert all(torch.equal(parameters[name], p) for name, p in whole.model.named_parameters())
        assert resumed.transformer_forwards < whole.transformer_forwards


def test_step_that_fails_after_the_old_policy_moved_is_begun_again_as_it_was(flux_pipeline, tmp_path):
    settings = dict(max_steps=4, old_policy_decay=0.5, old_policy_ramp=0.2, save_strategy="no")
    whole = build(flux_pipeline, tmp_path, **settings)
    whole.train()
    calls = []

    def fails_once(prompts, completions, num_generations, **columns):
        calls.append(None)
        if len(calls) == 3:
            raise RuntimeError("the reward function broke")
        return first_wins(prompts, completions, num_generations, **columns)

    broken = build(flux_pipeline, tmp_path, fails_once, **settings)
    with pytest.raises(RuntimeError, match="broke"):
        broken.train()
    resumed = build(flux_pipeline, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(broken.last_checkpoint))
    parameters = dict(resumed.model.named_parameters())
    assert all(torch.equal(parameters[name], p) for name, p in whole.model.named_parameters())


# What is refused


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"num_generations": 2, "scale_rewards": "group", "per_device_train_batch_size": 4}, "every decided pair"),
        ({"per_device_train_batch_size": 4}, "has to be a multiple of num_generations=3"),
        ({"per_device_train_batch_size": 3}, "do not divide into prompts of num_generations × noise levels trained"),
        ({"old_policy_decay": 1.0}, "would never move"),
        ({"loss_type": "ppo"}, "is not one of 'nft'"),
        ({"timestep_range": 0.0}, "is a share of the noise levels"),
        ({"noise_level": 1.5}, "at most 1 with sde_type='cps'"),
    ],
)
def test_settings_that_cannot_be(tmp_path, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        config(tmp_path, **overrides)
