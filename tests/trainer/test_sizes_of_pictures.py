"""Runs whose pictures have several sizes: rows that ask for theirs, and edits in the aspect of their sources."""

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets, load_dataset
from diffusers import QwenImageEditPipeline
from oracle import assert_same_picture, picture
from peft import LoraConfig
from PIL import Image
from test_align_prop_trainer import build as build_align_prop
from test_align_prop_trainer import contrast
from test_arithmetic import EIGHT_STEPS, PROMPTS
from test_diffusion_nft_trainer import build as build_nft
from test_editing import alternating, edits, trainer_for
from tiny_pipelines import build_qwen_image

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.data import RowError
from arr_trl.policies import FluxPolicy
from arr_trl.trainer import online_trainer
from arr_trl.trainer.evaluation import draw_rows
from arr_trl.trainer.measured import numbers


SIZES = [(32, 32), (32, 64), (64, 32), (32, 64)]  # height and width
DATASET = Dataset.from_dict(
    {"prompt": PROMPTS, "height": [height for height, _ in SIZES], "width": [width for _, width in SIZES]}
)


def first_is_brighter(prompts, completions, num_generations, **columns):
    return [float(np.asarray(image).mean()) for image in completions]


def build(pipeline, tmp_path, reward=first_is_brighter, dataset=DATASET, **overrides):
    """Four prompts in a rollout, which lasts for two optimizer steps."""
    settings = dict(
        output_dir=str(tmp_path / "out"),
        num_inference_steps=3,
        eval_num_inference_steps=2,
        sde_window_size=1,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
        steps_per_generation=2,
        max_steps=2,
        learning_rate=1e-2,
        shuffle_dataset=False,
        bf16=False,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    eval_dataset = overrides.pop("eval_dataset", None)
    return RPOTrainer(
        model=copy.deepcopy(pipeline),
        reward_funcs=reward,
        args=RPOConfig(**{**EIGHT_STEPS, **settings, **overrides}),
        train_dataset=dataset,
        eval_dataset=eval_dataset,
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )


def adapter(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if ".default." in name}


def forwards_of(trainer):
    """The number of rows and tokens of every forward."""
    found = []
    trainer.policy.pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: found.append(tuple(kwargs["hidden_states"].shape[:2])), with_kwargs=True
    )
    return found


def test_candidates_of_a_row_are_those_of_a_run_of_its_size(flux_pipeline, tmp_path):
    rows = [dict(row) for row in DATASET]
    trainer = build(flux_pipeline, tmp_path)
    forwards = forwards_of(trainer)
    sampled = trainer._sample(rows)
    # two rows of one size go together, before the first noise as one candidate each
    assert len(forwards) == 3 * 3
    assert sorted(forwards[::3]) == [(1, 16), (1, 32), (2, 32)]
    order = [PROMPTS.index(row["prompt"]) for row in sampled.rows]
    for height, width in set(SIZES):
        alone = build(flux_pipeline, tmp_path, dataset=DATASET.select_columns("prompt"), height=height, width=width)
        drawn = alone._sample([{"prompt": prompt} for prompt in PROMPTS])
        for place, i in enumerate(order):
            if SIZES[i] == (height, width):
                assert sampled.sizes[place] == (height, width)
                assert sampled.seeds[place] == drawn.seeds[i]
                for k in range(2):
                    assert_same_picture(sampled.images[2 * place + k], drawn.images[2 * i + k])


def test_advantages_go_to_the_rows_of_their_prompt(flux_pipeline, tmp_path):
    trainer = build(flux_pipeline, tmp_path, steps_per_generation=1, per_device_train_batch_size=8)
    sampled = trainer._sample([dict(row) for row in DATASET])
    worth = torch.tensor([[0.1, -0.1], [0.2, -0.2], [0.3, -0.3], [0.4, -0.4]])
    (parts,) = trainer._batches(sampled, worth)
    assert sorted(len(part["latents"]) for part in parts) == [1, 1, 2]
    expected = {size: worth[[i for i, other in enumerate(sampled.sizes) if other == size], 0] for size in set(SIZES)}
    for part in parts:
        assert part["prompt"].max() < len(part["conditioning.prompt_embeds"])
        size = next(size for size, of_size in expected.items() if torch.isin(part["advantages"][:, 0], of_size).all())
        assert part["latents"].shape[1] == size[0] * size[1] // 64
        # and stand beside what the network was given for that prompt
        conditioning = trainer.policy.encode(
            [r for r, s in zip(sampled.rows, sampled.sizes, strict=True) if s == size], *size
        )
        for prompt, advantages in zip(part["prompt"], part["advantages"], strict=True):
            assert advantages[0] == expected[size][prompt]
        assert torch.equal(part["conditioning.prompt_embeds"], conditioning["prompt_embeds"])


def test_judges_completions_and_evaluation_take_pictures_of_several_sizes(flux_pipeline, tmp_path):
    seen = []

    def remember(prompts, completions, **columns):
        seen.append([(prompt, image.size) for prompt, image in zip(prompts, completions, strict=True)])
        return [float(i % 2) for i in range(len(completions))]

    trainer = build(
        flux_pipeline, tmp_path, remember, eval_dataset=DATASET, log_completions=True, logging_steps=1, max_steps=1
    )
    trainer.train()
    expected = sorted((prompt, size[::-1]) for prompt, size in zip(PROMPTS, SIZES, strict=True) for _ in range(2))
    assert sorted(seen[0]) == expected
    completions = tmp_path / "out" / "completions"
    table = load_dataset("parquet", data_files=str(completions / "*.parquet"), split="train")
    assert sorted((row["prompt"], row["image"].size) for row in table) == expected
    assert Image.open(completions / "step_000001.png").width > 0
    trainer.evaluate()
    assert sorted(seen[-1]) == expected
    assert (tmp_path / "out" / "report.html").is_file()

    with trainer.model.disable_adapter():
        ours = draw_rows(trainer.policy, trainer.model, [dict(row) for row in DATASET], range(4), trainer.args)
    for i, (image, (height, width)) in enumerate(zip(ours, SIZES, strict=True)):
        theirs = flux_pipeline(
            PROMPTS[i], height=height, width=width, num_inference_steps=2, guidance_scale=trainer.args.guidance_scale,
            max_sequence_length=12, generator=torch.Generator().manual_seed(trainer.args.eval_seed + i),
        ).images[0]  # fmt: skip
        assert_same_picture(image, theirs)


@pytest.mark.parametrize("streaming", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_run_that_stops_within_a_rollout_of_several_sizes_ends_with_the_same_bytes(flux_pipeline, tmp_path, streaming):
    dataset = DATASET.to_iterable_dataset() if streaming else DATASET
    settings = dict(dataset=dataset, max_steps=3, save_strategy="steps", save_steps=1)
    whole = build(flux_pipeline, tmp_path, **settings)
    whole.train()
    resumed = build(flux_pipeline, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    assert all(torch.equal(value, adapter(resumed)[name]) for name, value in adapter(whole).items())


def test_passes_for_the_sake_of_other_processes_change_nothing(flux_pipeline, tmp_path, monkeypatch):
    runs = []
    for more in (0, 2):
        monkeypatch.setattr(
            online_trainer, "passes_of_all", lambda model, passes, device, n=more: [p + n for p in passes]
        )
        settings = dict(steps_per_generation=1, per_device_train_batch_size=8, max_steps=1)
        trainer = build(flux_pipeline, tmp_path, beta=0.1, **settings)
        forwards = forwards_of(trainer)
        trainer.train()
        runs.append((adapter(trainer), len(forwards)))
    (expected, needed), (found, made) = runs
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    # two more draws of three steps; in the micro-step two more parts, of which the reference has its forward too
    assert made - needed == 2 * 3 + 2 * 2


def test_finished_pictures_of_several_sizes_are_trained_on(flux_pipeline, tmp_path):
    trainer = build_nft(flux_pipeline, tmp_path, dataset=DATASET, max_steps=1)
    before = adapter(trainer)
    trainer.train()
    assert any(not torch.equal(value, before[name]) for name, value in adapter(trainer).items())


def test_gradient_of_a_reward_is_the_mean_over_pictures_of_all_sizes(flux_pipeline, tmp_path):
    rows = [dict(row) for row in DATASET.select([0, 1])]

    def measured(dataset_rows, **settings):
        trainer = build_align_prop(flux_pipeline, tmp_path, **settings)
        loss = trainer.compute_loss(trainer.model, dataset_rows)
        loss.backward()
        metrics = trainer._metrics["train"]
        return numbers(metrics["reward"]), numbers(metrics["policy/reward_grad_norm"]), loss.item()

    rewards, norms, loss = measured(rows)
    assert loss == pytest.approx(-sum(rewards) / 2)
    for i, (height, width) in enumerate(SIZES[:2]):
        alone = measured([{"prompt": prompt} for prompt in PROMPTS[:2]], height=height, width=width)
        assert rewards[i] == pytest.approx(alone[0][i], rel=1e-4)
        assert norms[-1 - i] == pytest.approx(alone[1][i], rel=1e-3)  # the backward comes to the last size first


def test_reward_with_a_gradient_compares_base_and_trained_at_every_size(flux_pipeline, tmp_path):
    trainer = build_align_prop(flux_pipeline, tmp_path, contrast, eval_dataset=DATASET)
    assert trainer.evaluate()["eval_rewards/contrast/mean"] == trainer.evaluate()["eval_rewards/contrast/mean_of_base"]


def test_edit_has_the_aspect_of_its_source_unless_it_is_told_not_to(tmp_path):
    pipeline = build_qwen_image(pipeline_class=QwenImageEditPipeline)
    sources = [picture(64, 64, 0), picture(128, 64, 1), picture(50, 100, 2), picture(65, 64, 3)]
    seen = {}

    def remember(prompts, completions, **columns):
        seen.update(zip(prompts, (image.size for image in completions), strict=True))
        return alternating(prompts, completions)

    dataset = edits(*sources)
    settings = dict(height=64, width=64, per_device_train_batch_size=8, shuffle_dataset=False)
    trainer = trainer_for(pipeline, tmp_path, remember, dataset, **settings)
    trainer.train()
    assert [seen[prompt] for prompt in dataset["prompt"]] == [(64, 64), (96, 32), (32, 96), (64, 64)]
    assert trainer.policy.sizes_of([dict(row) for row in dataset], 64, 64, size_from_source=False) == [(64, 64)] * 4


def test_size_that_the_pipeline_cannot_draw_is_found_before_weights_are_read(
    saved_flux_pipeline, tmp_path, monkeypatch
):
    monkeypatch.setattr(FluxPolicy, "load_pipeline", lambda *args, **kwargs: pytest.fail("weights were read"))
    dataset = DATASET.remove_columns("width").add_column("width", [32, 64, 35, 64])
    with pytest.raises(ValueError, match=r"Row 2 of train_dataset: width=35 does not divide by 8, .*; use 32 or 40"):
        RPOTrainer(
            model=str(saved_flux_pipeline),
            reward_funcs=first_is_brighter,
            args=RPOConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, report_to=[]),
            train_dataset=concatenate_datasets([dataset] * 8),
        )


def test_row_of_a_stream_that_cannot_be_drawn_is_named(flux_pipeline, tmp_path):
    rows = [dict(row) for row in DATASET]
    rows[3]["width"] = 35
    trainer = build(flux_pipeline, tmp_path, dataset=Dataset.from_list(rows).to_iterable_dataset())
    with pytest.raises(RowError, match=f"The row with the prompt '{PROMPTS[3]}' cannot be drawn: width=35"):
        trainer.train()
