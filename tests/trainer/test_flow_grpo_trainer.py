"""Flow-GRPO: its losses on real rows, its window that slides, its passes, and what a checkpoint keeps."""

import copy
import math

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from test_arithmetic import PROMPTS, count_backwards, first_wins, second_prompt_ties
from test_diffusion_nft_trainer import SMALL
from test_editing import edits
from tiny_pipelines import build_qwen_image

from arr_trl import FlowGRPOConfig, FlowGRPOTrainer
from arr_trl.trainer import CheckpointError
from arr_trl.trainer.buffer import random_at
from arr_trl.trainer.cost import rollout_forwards
from arr_trl.trainer.measured import numbers
from arr_trl.trainer.trajectory_trainer import slid_window


LOSSES = ("ppo", "guard", "dppo", "d3po", "prdp")
ROWS = [{"prompt": prompt} for prompt in PROMPTS[:2]]
nan = math.nan


def config(tmp_path, **overrides):
    own = dict(
        output_dir=str(tmp_path / "out"), num_generations=4, sde_window_size=1, per_device_train_batch_size=8,
        steps_per_generation=1,
    )  # fmt: skip
    return FlowGRPOConfig(**{**SMALL, **own, **overrides})


def build(pipeline, tmp_path, reward=first_wins, dataset=None, **overrides):
    return FlowGRPOTrainer(
        model=copy.deepcopy(pipeline),
        reward_funcs=reward,
        args=config(tmp_path, **overrides),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}) if dataset is None else dataset,
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"sde_window_size": 2, "per_device_train_batch_size": 16},
        {"beta": 0.1},
        {"loss_type": "d3po"},
        {"loss_type": "dppo", "steps_per_generation": 2, "per_device_train_batch_size": 4, "max_steps": 2},
        {"share_initial_noise": False},
        {"sde_window_stride": 1},
    ],
    ids=lambda overrides: ",".join(f"{k}={v}" for k, v in overrides.items()) or "default",
)
def test_counted_passes_are_those_of_the_formula(flux_pipeline, tmp_path, overrides):
    trainer = build(flux_pipeline, tmp_path, **overrides)
    backwards = count_backwards(trainer)
    trainer.train()
    window = trainer._plan_rollout(random_at(trainer.args.seed, 0))
    expected = rollout_forwards(
        trainer.args, prompts=2, window_start=0 if "stride" in str(overrides) else window.start
    )
    assert trainer.transformer_forwards == expected.sampling + expected.training + expected.reference
    assert sum(backwards) == expected.training


def test_prompts_whose_rewards_are_equal_are_not_trained_on(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, second_prompt_ties)
    backwards = count_backwards(trainer)
    trainer.train()
    assert sum(backwards) == 1  # the four that leave one latent
    (log,) = [entry for entry in trainer.state.log_history if "reward_std" in entry]
    assert log["frac_reward_zero_std"] == 0.5
    assert log["rollout/decided_rate"] == 0.5
    assert log["reward_std"] == pytest.approx(math.sqrt(3) / 8)


@pytest.mark.parametrize(
    ("pipeline", "loss_type"),
    [
        *(("flux", loss_type) for loss_type in LOSSES),
        ("qwen_image_edit", LOSSES[0]),
        *(pytest.param("qwen_image_edit", loss_type, marks=pytest.mark.slow) for loss_type in LOSSES[1:]),
    ],
)
def test_every_loss_trains(flux_pipeline, tmp_path, loss_type, pipeline):
    settings = dict(loss_type=loss_type, logging_steps=1, max_steps=2, epsilon=0.1)
    if pipeline == "flux":
        trainer = build(flux_pipeline, tmp_path, **settings)
    else:
        from diffusers import QwenImageEditPipeline

        model = build_qwen_image(pipeline_class=QwenImageEditPipeline)
        trainer = build(
            model,
            tmp_path,
            dataset=edits(),
            condition_size=64,
            guidance_scale=1.0,
            max_sequence_length=None,
            **settings,
        )
    before = [p.clone() for p in trainer.model.parameters() if p.requires_grad]
    trainer.train()
    after = [p for p in trainer.model.parameters() if p.requires_grad]
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def batch_of(trainer, advantages):
    ((batch,),) = trainer._batches(trainer._sample(ROWS), torch.tensor(advantages))
    return batch


@pytest.mark.parametrize("loss_type", LOSSES)
def test_better_candidates_become_likelier_after_a_step(flux_pipeline, tmp_path, loss_type):
    trainer = build(flux_pipeline, tmp_path, loss_type=loss_type, epsilon=0.1)
    batch = batch_of(trainer, [[1.0, 0.5, -0.5, -1.0], [-1.0, -0.5, 0.5, 1.0]])
    trained = [p for p in trainer.model.parameters() if p.requires_grad]

    def likelihood():
        """Of what was drawn, weighed by the advantages: the surrogate of the plain ratio."""
        other = dict(batch) | {"log_prob": batch["log_prob"].detach()}
        args, trainer.args.loss_type = trainer.args, "ppo"
        value = -trainer._loss_of_rows(trainer.model, other)
        args.loss_type = loss_type
        return value

    uphill = torch.autograd.grad(likelihood(), trained)
    downhill = torch.autograd.grad(trainer._loss_of_rows(trainer.model, dict(batch)), trained)
    product = sum((u * -d).sum() for u, d in zip(uphill, downhill, strict=True))
    norms = [math.sqrt(sum((g**2).sum() for g in gradient)) for gradient in (uphill, downhill)]
    assert product / math.prod(norms) > 0.9


@pytest.mark.parametrize("loss_type", LOSSES)
def test_candidate_that_no_judge_answered_for_moves_nothing(flux_pipeline, tmp_path, loss_type):
    trainer = build(flux_pipeline, tmp_path, loss_type=loss_type, epsilon=0.1)
    batch = batch_of(trainer, [[1.0, -1.0, nan, 0.0], [nan] * 4])
    losses = []
    for shift in (0.0, 1.0):
        other = {name: t for name, t in batch.items() if name != "ref_velocity"}
        other["next_latents"] = batch["next_latents"].clone()
        other["next_latents"][:, 2] += shift
        losses.append(trainer._loss_of_rows(trainer.model, other).item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("loss_type", ["d3po", "prdp"])
def test_pairs_are_held_against_the_reference(flux_pipeline, tmp_path, loss_type):
    trainer = build(flux_pipeline, tmp_path, loss_type=loss_type, epsilon=0.9, preference_beta=100.0)
    batch = batch_of(trainer, [[1.0, 0.5, -0.5, -1.0], [-1.0, -0.5, 0.5, 1.0]])
    at_base = dict(batch)
    losses = [trainer._loss_of_rows(trainer.model, at_base).item()]
    other = at_base["ref_velocity"] + 0.1 * batch["latents"]
    losses.append(trainer._loss_of_rows(trainer.model, batch | {"ref_velocity": other}).item())
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("loss_type", ["guard", "dppo"])
def test_step_off_policy_is_held_against_the_mean_of_the_rollout(flux_pipeline, tmp_path, loss_type):
    settings = dict(
        loss_type=loss_type, steps_per_generation=2, per_device_train_batch_size=4, kl_mask_threshold=1e-12
    )
    trainer = build(flux_pipeline, tmp_path, epsilon=0.1, **settings)
    sampled = trainer._sample(ROWS)
    assert sampled.parts[0]["mean"].shape == sampled.parts[0]["latents"].shape
    (first,), _ = trainer._batches(sampled, torch.tensor([[1.0, 0.5, -0.5, -1.0]] * 2))
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    gradients = []
    for mean in (first["mean"], first["mean"] + 0.1):
        trainer.model.zero_grad()
        loss = trainer._loss_of_rows(trainer.model, first | {"mean": mean})
        loss.backward()
        gradients.append(loss.item())
    if loss_type == "guard":
        assert gradients[0] != gradients[1]
    log = {name: numbers(values) for name, values in trainer._metrics["train"].items()}
    assert max(log["policy/ratio_deviation"]) > 0
    if loss_type == "dppo":
        assert min(log["policy/old_kl"]) > 1e-12
    assert "mean" not in build(flux_pipeline, tmp_path, loss_type=loss_type)._sample(ROWS).parts[0]


def test_window_slides_from_the_beginning_of_its_range_to_its_end(tmp_path):
    args = config(tmp_path, num_inference_steps=6, sde_window_size=2, sde_window_range=[1, 5], sde_window_stride=3,
                  per_device_train_batch_size=16)  # fmt: skip
    assert [slid_window(args, rollout).start for rollout in range(9)] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert slid_window(args, 1000) == range(3, 5)


@pytest.mark.parametrize("settings", [
    {"steps_per_generation": 2, "per_device_train_batch_size": 4, "loss_type": "dppo"},
    pytest.param(
        {"num_iterations": 2, "beta": 0.1, "loss_type": "guard", "logging_steps": 1}, marks=pytest.mark.slow
    ),
    pytest.param({"sde_window_stride": 1}, marks=pytest.mark.slow),
])  # fmt: skip
def test_resumed_run_equals_the_uninterrupted_one(flux_pipeline, tmp_path, settings):
    settings = dict(max_steps=4, save_strategy="steps", save_steps=1, **settings)
    whole = build(flux_pipeline, tmp_path, **settings)
    whole.train()
    for step in (1, 2):
        resumed = build(flux_pipeline, tmp_path, **settings)
        resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{step}"))
        parameters = dict(resumed.model.named_parameters())
        assert all(torch.equal(parameters[name], p) for name, p in whole.model.named_parameters())


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"loss_type": "d3po", "share_initial_noise": False}, "needs share_initial_noise=True"),
        ({"loss_type": "prdp", "sde_window_size": 2, "per_device_train_batch_size": 16}, "and sde_window_size=1"),
        ({"loss_type": "d3po", "kl_fraction": 0.5}, "leave kl_fraction at 1"),
        ({"loss_type": "nft"}, "is not one of 'ppo'"),
        ({"num_generations": 2, "scale_rewards": "group"}, "every decided pair"),
        ({"sde_window_stride": 0}, "sde_window_stride=0 has to be at least 1"),
    ],
)
def test_settings_that_cannot_be(tmp_path, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        config(tmp_path, **overrides)


def test_defaults_are_those_of_flow_grpo_fast_for_flux():
    args = FlowGRPOConfig(output_dir="unused", use_cpu=True, bf16=False)
    assert (args.num_generations, args.num_inference_steps, args.window_size, args.sde_window_range) == (
        24,
        6,
        3,
        [0, 3],
    )
    assert args.prompts_per_rollout == 8
    assert not args.on_policy  # two optimizer steps for a rollout


@pytest.mark.parametrize(("loss_type", "epsilon"), [("ppo", 1e-4), ("guard", 2e-6), ("d3po", 0.1), ("prdp", 0.1)])
def test_clip_is_in_the_size_of_what_it_clips(tmp_path, loss_type, epsilon):
    assert config(tmp_path, loss_type=loss_type).epsilon == epsilon
    assert config(tmp_path, loss_type=loss_type, epsilon=0.5).epsilon == 0.5


def test_rollout_is_trained_on_under_the_loss_that_it_was_drawn_for(flux_pipeline, tmp_path):
    settings = dict(max_steps=2, num_iterations=2, save_strategy="steps", save_steps=1)
    build(flux_pipeline, tmp_path, **settings).train()
    resumed = build(flux_pipeline, tmp_path, loss_type="guard", **settings)
    with pytest.raises(CheckpointError, match="loss_type"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
