"""The evaluation beside training: which of the two models wins, and how their pictures are drawn."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from test_rpo_trainer import PROMPTS, brightness, trainer_for

from arr_trl.trainer.evaluation import draw_rows, share_of


ROWS = [{"prompt": prompt} for prompt in PROMPTS]
DATASET = Dataset.from_list(ROWS)


def shake(trainer):
    """An adapter that draws other pictures than its base."""
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.5, generator=torch.Generator().manual_seed(0))


def distance(image, other):
    return np.abs(np.asarray(image, dtype=float) - np.asarray(other, dtype=float)).mean()


def pictures_of_both(trainer):
    """What the base draws of each prompt, and what the adapter does."""
    trained = draw_rows(trainer.policy, trainer.model, ROWS, range(len(ROWS)), trainer.args)
    with trainer.model.disable_adapter():
        base = draw_rows(trainer.policy, trainer.model, ROWS, range(len(ROWS)), trainer.args)
    return base, trained


def test_win_rate_and_success_are_of_the_trained_model_against_its_base(flux_pipeline, tmp_path):
    blank = [Image.new("RGB", (32, 32))] * len(ROWS)
    known = [blank, blank]  # the trainer tries the functions before it loads anything

    def is_of_the_adapter(prompts, completions, **columns):
        base, trained = (dict(zip(PROMPTS, pictures, strict=True)) for pictures in known)
        return [
            distance(image, trained[prompt]) < distance(image, base[prompt])
            for prompt, image in zip(prompts, completions, strict=True)
        ]

    trainer = trainer_for(
        flux_pipeline, tmp_path, is_of_the_adapter, eval_dataset=DATASET,
        eval_funcs=lambda **columns: [{"of the adapter": found} for found in is_of_the_adapter(**columns)],
    )  # fmt: skip
    shake(trainer)
    known[:] = pictures_of_both(trainer)
    metrics = trainer.evaluate()
    assert (metrics["eval_win_rate"], metrics["eval_tie_rate"]) == (1.0, 0.0)
    assert (metrics["eval_base_success_all"], metrics["eval_success_all"]) == (0.0, 1.0)
    assert (trainer.evaluation.base.success_all, trainer.evaluation.trained.success_all) == (0.0, 1.0)


def test_win_rate_is_the_share_of_prompts_on_which_the_adapter_is_ahead(flux_pipeline, tmp_path):
    trainer = trainer_for(flux_pipeline, tmp_path, brightness, eval_dataset=DATASET)
    shake(trainer)
    base, trained = (brightness(None, pictures) for pictures in pictures_of_both(trainer))
    expected = sum(mine > theirs for mine, theirs in zip(trained, base, strict=True)) / len(ROWS)
    assert trainer.evaluate()["eval_win_rate"] == expected


def test_pictures_are_drawn_with_the_steps_of_the_evaluation(flux_pipeline, tmp_path):
    trainer = trainer_for(
        flux_pipeline, tmp_path, brightness, eval_dataset=DATASET, num_inference_steps=4, eval_num_inference_steps=3
    )
    trainer.evaluate()
    assert trainer.transformer_forwards == 2 * len(ROWS) * 3


def test_picture_of_a_prompt_depends_on_its_place_and_not_on_its_batch(flux_pipeline, tmp_path):
    trainer = trainer_for(flux_pipeline, tmp_path, brightness)
    rows = [{"prompt": PROMPTS[0]}] * 4
    drawn = {}
    for size in (4, 3, 1):
        trainer.args.per_device_eval_batch_size = size
        drawn[size] = draw_rows(trainer.policy, trainer.model, rows, [0, 1, 5, 6], trainer.args)
    for size in (3, 1):
        assert max(map(distance, drawn[size], drawn[4])) < 1
    assert distance(drawn[4][0], drawn[4][2]) > 1


@pytest.mark.parametrize("num_rows", [1, 5, 6, 8])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_row_counts_once_and_every_process_draws_as_many(num_rows, processes):
    shares = [share_of(process, processes, num_rows) for process in range(processes)]
    assert sorted(place for places, counted in shares for place in places[:counted]) == list(range(num_rows))
    assert len({len(places) for places, _ in shares}) == 1
