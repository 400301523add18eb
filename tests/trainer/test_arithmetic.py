"""Forward and backward passes, counted by hooks while a run trains, are those the formula promises."""

import random

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny_pipelines import build_qwen_image

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.trainer.buffer import join_buffers, random_at
from arr_trl.trainer.cost import describe, rollout_forwards, window_forwards
from arr_trl.trainer.evaluation import draw_rows
from arr_trl.trainer.trajectory_trainer import draw_window


PROMPTS = ["a red circle left of a blue square", "a green triangle above a red square", "a blue circle", "two squares"]
# what the tests below have in common with FLUX.1-dev: eight steps, two candidates
EIGHT_STEPS = dict(num_inference_steps=8, num_generations=2, height=32, width=32, max_sequence_length=12, use_cpu=True)


def first_wins(prompts, completions, num_generations, **columns):
    return [float(i % num_generations == 0) for i in range(len(completions))]


def second_prompt_ties(prompts, completions, num_generations, **columns):
    return [float(i == 0) for i in range(len(completions))]


def build(pipeline, tmp_path, reward=first_wins, **overrides):
    settings = dict(
        output_dir=str(tmp_path),
        sde_window_size=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        max_steps=1,
        learning_rate=1e-2,
        bf16=False,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    return RPOTrainer(
        model=pipeline,
        reward_funcs=reward,
        args=RPOConfig(**{**EIGHT_STEPS, **settings, **overrides}),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )


def count_backwards(trainer):
    counted = []
    trainer.policy.pipeline.transformer.register_full_backward_hook(
        lambda module, grad_input, grad_output: counted.append(len(grad_output[0]))
    )
    return counted


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"share_initial_noise": False},
        {"beta": 0.0, "logging_steps": 100},
        {"beta": 0.0, "logging_steps": 1},
        {"sde_window_size": 1, "sde_window_range": [2, 3], "per_device_train_batch_size": 4},
        {"sde_window_size": None, "per_device_train_batch_size": 28},
        {"num_generations": 4, "per_device_train_batch_size": 16},
        {"num_iterations": 2, "max_steps": 2},
        {"kl_fraction": 0.25},
        {"steps_per_generation": 4, "gradient_accumulation_steps": 4, "per_device_train_batch_size": 2},
        {"rollout_batch_size": 1},
    ],
    ids=lambda overrides: ",".join(f"{k}={v}" for k, v in overrides.items()) or "default",
)
def test_counted_passes_are_those_of_the_formula(flux_pipeline, tmp_path, overrides):
    trainer = build(flux_pipeline, tmp_path, **overrides)
    backwards = count_backwards(trainer)
    trainer.train()
    window = draw_window(trainer.args, random_at(trainer.args.seed, 0))
    expected = rollout_forwards(trainer.args, prompts=2, window_start=window.start)
    # with beta=0 the divergence is still measured where a log follows
    measured = expected.training if trainer.args.beta == 0 and trainer.args.logging_steps == 1 else 0
    assert trainer.transformer_forwards == expected.sampling + expected.training + expected.reference + measured
    assert sum(backwards) == expected.training


@pytest.mark.parametrize("cfg", ["both", "rollout", "off"])
def test_second_branch_of_guidance_counts_where_it_is_used(tmp_path, cfg):
    trainer = build(
        build_qwen_image(), tmp_path, classifier_free_guidance=cfg, guidance_scale=4.0, height=32, width=32
    )
    assert trainer.policy.uses_cfg(4.0)
    backwards = count_backwards(trainer)
    trainer.train()
    window = draw_window(trainer.args, random_at(trainer.args.seed, 0))
    expected = rollout_forwards(trainer.args, prompts=2, window_start=window.start, guided=True)
    assert trainer.transformer_forwards + sum(backwards) == expected.total
    assert "guidance        true_cfg_scale=4" in trainer.batch_arithmetic()


def test_masked_prompts_are_sampled_and_not_trained_on(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, second_prompt_ties)
    backwards = count_backwards(trainer)
    trainer.train()
    window = draw_window(trainer.args, random_at(trainer.args.seed, 0))
    expected = rollout_forwards(trainer.args, prompts=2, window_start=window.start, decided=1)
    assert trainer.transformer_forwards + sum(backwards) == expected.total
    assert sum(backwards) == 3


def flux_recipe(**overrides):
    return RPOConfig(
        output_dir="unused", bf16=False, per_device_train_batch_size=4, gradient_accumulation_steps=7,
        **EIGHT_STEPS, **overrides,
    )  # fmt: skip


def test_a_pair_costs_58_passes_with_the_papers_schedule_and_at_most_22_with_a_window_of_two():
    paper = flux_recipe(share_initial_noise=False)
    assert rollout_forwards(paper, prompts=1, window_start=0).total == 58
    assert rollout_forwards(flux_recipe(), prompts=1, window_start=0).total == 54

    window = flux_recipe(sde_window_size=2)
    costs = {start: rollout_forwards(window, prompts=7, window_start=start).total / 7 for start in range(6)}
    assert costs == {0: 24, 1: 23, 2: 22, 3: 21, 4: 20, 5: 19}
    starts = [draw_window(window, random_at(0, rollout)).start for rollout in range(600)]
    assert sum(costs[start] for start in starts) / len(starts) < 22  # where the window is drawn from all steps

    # and with the penalty on a quarter of the rows wherever it is
    window = flux_recipe(sde_window_size=2, kl_fraction=0.25)
    window.per_device_train_batch_size, window.steps_per_generation = 28, 1
    assert max(rollout_forwards(window, prompts=8, window_start=start).total / 8 for start in range(6)) <= 22


@pytest.mark.parametrize("settings", [
    {}, {"kl_type": "log_ratio"}, {"sde_type": "cps", "noise_level": 0.8}, {"num_iterations": 2},
])  # fmt: skip
def test_shared_rows_give_the_loss_and_gradient_of_one_row_for_each_transition(flux_pipeline, tmp_path, settings):
    trainer = build(flux_pipeline, tmp_path, second_prompt_ties, beta=0.3, **settings)
    with torch.no_grad():  # away from the base, where the penalty has a gradient
        for name, p in trainer.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    ((shared,),) = trainer._score(trainer._sample([{"prompt": PROMPTS[0]}, {"prompt": PROMPTS[1]}]))
    alone = {name: [] for name in shared}
    for row, slot in (~shared["advantages"].isnan()).nonzero().tolist():
        for name, tensor in shared.items():
            part = tensor[row : row + 1]
            alone[name].append(
                part[:, slot : slot + 1] if name in ("next_latents", "log_prob", "advantages") else part
            )
    alone = {
        name: shared[name] if name.startswith("conditioning.") else torch.cat(parts) for name, parts in alone.items()
    }
    assert len(alone["latents"]) == 4
    assert len(shared["latents"]) == 3

    results = []
    for inputs in (shared, alone):
        trainer.model.zero_grad()
        loss = trainer._loss_of_rows(trainer.model, inputs)
        loss.backward()
        results.append((loss, {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(results[0][0], results[1][0])
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(gradient, results[1][1][name], atol=1e-6, rtol=1e-4)


def test_penalty_on_some_rows_is_on_average_the_penalty_on_all(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, beta=1e4, center_rewards=True)
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    ((batch,),) = trainer._score(trainer._sample([{"prompt": PROMPTS[0]}, {"prompt": PROMPTS[1]}]))
    rows = len(batch["latents"])

    def loss(first):
        order = torch.arange(rows).roll(-first)
        inputs = {name: t if name.startswith("conditioning.") else t[order] for name, t in batch.items()}
        return trainer._loss_of_rows(trainer.model, inputs).item()

    whole = loss(0)
    trainer.args.kl_fraction = 1 / rows
    assert sum(loss(first) for first in range(rows)) / rows == pytest.approx(whole, rel=1e-4)


def test_noise_of_a_prompt_depends_on_its_place_alone(flux_pipeline, tmp_path):
    from arr_trl.trainer.buffer import prompt_generators

    together = [torch.rand(1, generator=g).item() for g in prompt_generators(0, 3, first=0, count=4)]
    parts = [torch.rand(1, generator=g).item() for k in (0, 2) for g in prompt_generators(0, 3, first=k, count=2)]
    assert together == parts
    assert len(set(together)) == 4
    assert together != [torch.rand(1, generator=g).item() for g in prompt_generators(0, 4, first=0, count=4)]
    assert random_at(1, 2).random() == random_at(1, 2).random() != random.Random("12").random()


def test_advantage_goes_to_the_transitions_of_its_candidate():
    parts = [
        {"prompt": torch.tensor([0, 0]), "candidate": torch.tensor([[0, 1], [1, -1]])},
        {"prompt": torch.tensor([1, 1]), "candidate": torch.tensor([[0, 1], [0, -1]])},
    ]
    buffer = join_buffers(parts, torch.tensor([[1.0, -0.1], [torch.nan, torch.nan]]))
    expected = torch.tensor([[1.0, -0.1], [-0.1, torch.nan], [torch.nan, torch.nan], [torch.nan, torch.nan]])
    torch.testing.assert_close(buffer["advantages"], expected, equal_nan=True)


def test_pictures_of_the_evaluation_may_be_larger_than_those_of_training(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, eval_height=64, eval_width=48, eval_num_inference_steps=1)
    (image,) = draw_rows(trainer.policy, trainer.model, [{"prompt": PROMPTS[0]}], [0], trainer.args)
    assert image.size == (48, 64)


def test_batch_arithmetic_is_told_in_words():
    papers = flux_recipe(share_initial_noise=False, max_steps=10)
    papers.steps_per_generation = papers.gradient_accumulation_steps = 112
    assert describe(papers, window_forwards(papers, guided=False), num_processes=1, questions_per_prompt=2) == (
        [
            ("rollout", "32 prompts × 2 candidates = 64 images"),
            ("loss", "7 of 8 steps trained = 448 transitions"),
            ("optimizer step", "1 of 448 transitions"),
            ("transformer", "58 passes for each prompt"),
            ("judge", "64 questions, 640 in 10 optimizer steps"),
        ]
    )
    window = flux_recipe(sde_window_size=2, num_iterations=2)
    assert describe(window, window_forwards(window, guided=False), num_processes=4) == (
        [
            ("rollout", "28 prompts × 2 candidates = 56 images"),
            ("devices", "4, with 7 prompts each"),
            ("loss", "2 of 8 steps trained = 112 transitions, 2 times over"),
            ("optimizer steps", "2 of 112 transitions"),
            ("transformer", "25 to 30 passes for each prompt"),
        ]
    )
