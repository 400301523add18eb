"""Rows are read when their rollout needs them, and pictures in them decoded for whoever looks at them."""

import io

import datasets
import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from peft import LoraConfig
from PIL import Image

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.judges import JudgeReward, JudgeStats, Verdict
from arr_trl.trainer import row_batches


ROWS, MICRO_STEPS, STEPS = 4, 8, 2  # a rollout takes all rows, and each optimizer step a rollout
DECODES = 4  # of one row: three pictures, and `datasets` tries the first of a list beforehand
COLOURS = [(40 * i, 10, 200) for i in range(ROWS)]


def png(colour):
    content = io.BytesIO()
    Image.new("RGB", (9, 8), colour).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def rows(streaming=False):
    features = {"prompt": Value("string"), "number": Value("int64"), "edited": ImageFeature()}
    features["others"] = List(ImageFeature())
    pictures = [png(colour) for colour in COLOURS]
    columns = {"prompt": [f"a red circle {i}" for i in range(ROWS)], "number": list(range(ROWS))}
    columns |= {"edited": pictures, "others": [[picture] * 2 for picture in pictures]}
    dataset = Dataset.from_dict(columns, features=Features(features))
    return dataset.to_iterable_dataset() if streaming else dataset


@pytest.fixture
def decoded(monkeypatch):
    """How many pictures of datasets this process decoded."""
    count = []
    decode = datasets.Image.decode_example

    def counting(self, *args, **kwargs):
        count.append(1)
        return decode(self, *args, **kwargs)

    monkeypatch.setattr(datasets.Image, "decode_example", counting)
    return count


def trainer_for(pipeline, tmp_path, reward, train_dataset, eval_dataset=None, eval_funcs=None, **overrides):
    settings = dict(
        output_dir=str(tmp_path),
        height=32,
        width=32,
        max_sequence_length=12,
        num_inference_steps=3,
        eval_num_inference_steps=1,
        sde_window_size=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=MICRO_STEPS,
        max_steps=STEPS,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    return RPOTrainer(
        model=pipeline,
        reward_funcs=reward,
        args=RPOConfig(**{**settings, **overrides}),
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        eval_funcs=eval_funcs,
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )


def looks(prompts, completions, number, edited, others, **columns):
    """A reward function that finds in the columns what the dataset shows for them."""
    for i, picture, several in zip(number, edited, others, strict=True):
        for image in (picture, *several):
            assert isinstance(image, Image.Image)
            assert image.size == (9, 8)
            assert image.getpixel((0, 0)) == COLOURS[i]
    return [float(i % 2) for i in range(len(completions))]


class Blind(JudgeReward):
    """A judge, which looks at the candidates alone."""

    def __init__(self):
        super().__init__(None, 1)

    def _compare(self, rows):
        return [Verdict(winner=0, ranks=(1.0, 2.0)) for _ in rows], JudgeStats()

    def check(self):
        pass


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("streaming", [False, True])
def test_row_is_read_and_decoded_once_and_not_for_each_micro_step_of_its_rollout(
    flux_pipeline, tmp_path, decoded, monkeypatch, streaming, workers
):
    read = []
    read_rows = row_batches.read_rows
    monkeypatch.setattr(row_batches, "read_rows", lambda *args: read.append(args[1]) or read_rows(*args))
    settings = {} if workers == 0 else {"dataloader_num_workers": workers}
    trainer = trainer_for(flux_pipeline, tmp_path, looks, rows(streaming), **settings)
    assert trainer.args.steps_per_rollout == MICRO_STEPS
    decoded.clear()
    trainer.train()
    assert trainer.state.global_step == STEPS
    assert len(decoded) == STEPS * ROWS * DECODES
    assert [sorted(places) for places in read] == ([] if streaming else [list(range(ROWS))] * STEPS)


@pytest.mark.parametrize("streaming", [False, True])
def test_pictures_that_nobody_asked_for_are_not_decoded(flux_pipeline, tmp_path, decoded, streaming):
    trainer = trainer_for(flux_pipeline, tmp_path, Blind(), rows(streaming), rows())
    trainer.train()
    trainer.evaluate()
    trainer.create_model_card()
    assert len(decoded) == 0


@pytest.mark.parametrize("reward", [looks, Blind()])
def test_functions_of_an_evaluation_get_pictures_and_not_what_is_stored(flux_pipeline, tmp_path, decoded, reward):
    asked = []

    def same(prompts, completions, edited, **columns):
        asked.append(len(completions))
        assert all(isinstance(image, Image.Image) for image in edited)
        return [{"same": np.asarray(image).shape == (8, 9, 3)} for image in edited]

    trainer = trainer_for(flux_pipeline, tmp_path, reward, rows(), rows(), same)
    assert asked == [1]  # the check before anything is loaded
    decoded.clear()
    assert trainer.evaluate()["eval_success/same"] == 1
    assert asked == [1, ROWS, ROWS]
    assert len(decoded) == ROWS * DECODES


def test_picture_of_a_column_that_is_broken_ends_the_run_with_what_was_trained(flux_pipeline, tmp_path):
    broken = rows().to_dict()
    broken["edited"][2] = {"bytes": b"no picture", "path": None}
    broken = Dataset.from_dict(broken, features=rows().features)
    trainer = trainer_for(
        flux_pipeline, tmp_path, looks, broken, max_steps=4, shuffle_dataset=False, save_strategy="steps",
        save_steps=100, per_device_train_batch_size=2, gradient_accumulation_steps=1, steps_per_generation=1,
    )  # fmt: skip
    with pytest.raises(Exception, match="cannot identify image file"):
        trainer.train()
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
