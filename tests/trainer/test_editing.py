"""Training on rows with a source picture: who sees it, and what happens when it is bad."""

import copy
import io
import re

import numpy as np
import pytest
from datasets import Dataset, Features, Value, load_dataset
from datasets import Image as ImageFeature
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit
from oracle import assert_same_picture, picture
from peft import LoraConfig
from PIL import Image
from tiny_pipelines import build_qwen_image

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.data import RowError
from arr_trl.evaluation import InferenceSettings, draw
from arr_trl.judges import JudgeReward, JudgeStats, Verdict


INSTRUCTIONS = [
    "Make the circle green",
    "Remove a square",
    "Make the circle larger",
    "Remove the circle from the picture",
]


@pytest.fixture(scope="module")
def _edit_pipeline():
    return build_qwen_image(pipeline_class=QwenImageEditPipeline)


@pytest.fixture
def edit_pipeline(_edit_pipeline):
    return copy.deepcopy(_edit_pipeline)


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def edits(*sources):
    sources = sources or [picture(40, 32, seed) for seed in range(4)]
    return Dataset.from_list([{"prompt": p, "source_image": s} for p, s in zip(INSTRUCTIONS, sources, strict=True)])


def alternating(prompts, completions, **columns):
    return [float(i % 2) for i in range(len(completions))]


def trainer_for(pipeline, tmp_path, reward_funcs=alternating, dataset=None, eval_dataset=None, **overrides):
    settings = dict(
        output_dir=str(tmp_path / "out"),
        height=32,
        width=32,
        condition_size=64,
        guidance_scale=1.0,
        num_inference_steps=3,
        eval_num_inference_steps=2,
        sde_window_size=1,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
        max_steps=1,
        learning_rate=1e-2,
        logging_steps=1,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    return RPOTrainer(
        model=pipeline,
        reward_funcs=reward_funcs,
        args=RPOConfig(**{**settings, **overrides}),
        train_dataset=edits() if dataset is None else dataset,
        eval_dataset=eval_dataset,
        peft_config=None if "adapter_path" in overrides else LoraConfig(r=2, lora_alpha=4),
    )


def adapter(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if ".default." in name}


def history(trainer, key):
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def test_every_adapter_parameter_moves(edit_pipeline, tmp_path):
    trainer = trainer_for(edit_pipeline, tmp_path, max_steps=2)
    before = adapter(trainer)
    trainer.train()
    # what the last block makes of the text is not read any more
    still = [name for name, after in adapter(trainer).items() if np.array_equal(before[name], after)]
    assert all("transformer_blocks.1.attn" in name and ("add" in name) for name in still), still


def test_reward_functions_get_the_source_of_every_candidate_as_a_picture(edit_pipeline, tmp_path):
    seen = {}

    def remember(prompts, completions, source_image, **columns):
        seen.update(zip(prompts, source_image, strict=True))
        return alternating(prompts, completions)

    sources = [png(picture(40, 32, 0)), png(picture(32, 64, 1)), png(picture(32, 32, 2)), png(picture(64, 32, 3))]
    trainer_for(edit_pipeline, tmp_path, remember, edits(*sources), max_steps=2).train()
    assert {prompt: image.size for prompt, image in seen.items()} == dict(
        zip(INSTRUCTIONS, [(40, 32), (32, 64), (32, 32), (64, 32)], strict=True)
    )
    assert all(image.mode == "RGB" for image in seen.values())


class Remembering(JudgeReward):
    """Prefers the second candidate, and knows by which source of which size each instruction was judged."""

    def __init__(self):
        super().__init__(max_failure_rate=None, failure_window=1)
        self.seen = []

    def check(self):
        pass

    def _compare(self, rows):
        self.seen += [(row.prompt, row.source_image.size) for row in rows]
        return [Verdict(winner=1, ranks=(2.0, 1.0)) for _ in rows], JudgeStats()


def test_judge_sees_the_source_of_each_row_in_training_and_in_evaluation(edit_pipeline, tmp_path):
    sizes = [(40, 32), (32, 64), (32, 32), (64, 32)]
    dataset = edits(*[picture(*size, seed) for seed, size in enumerate(sizes)])
    judge, expected = Remembering(), sorted(zip(INSTRUCTIONS, sizes, strict=True))
    trainer = trainer_for(edit_pipeline, tmp_path, judge, dataset, eval_dataset=dataset, max_steps=2)
    trainer.train()
    assert sorted(judge.seen) == expected
    judge.seen.clear()
    trainer.evaluate()
    assert sorted(judge.seen) == expected


def test_sheet_card_and_completions_show_the_source(edit_pipeline, tmp_path):
    trainer = trainer_for(edit_pipeline, tmp_path, eval_dataset=edits(), log_completions=True)
    trainer.train()
    trainer.save_model()
    trainer.evaluate()
    trainer.create_model_card()
    # three pictures beside each other: 160 pixels for the source's 40, scaled up by 4, and two of 160
    cell = 160 + 160 + 160 + 2 * 6
    assert Image.open(tmp_path / "out" / "samples.png").width == 24 + 2 * (cell + 24)
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'image=load_image("source.png")' in card
    assert "image-editing" in card
    table = load_dataset(
        "parquet", data_files=str(tmp_path / "out" / "completions" / "*.parquet"), split="train",
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    assert [image.size for image in table[0]["source_image"]] == [(40, 32)]


def test_usage_code_of_the_card_resizes_the_source_as_training_does(edit_pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", pipeline_qwenimage_edit.calculate_dimensions)
    monkeypatch.chdir(tmp_path)
    row = {"prompt": INSTRUCTIONS[0], "source_image": picture(40, 32, 0)}
    row["source_image"].save("source.png")
    trainer = trainer_for(copy.deepcopy(edit_pipeline), tmp_path)
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    code = re.search(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)[1]
    # the pipeline's own loader needs torchvision for the processor
    code = code.replace("QwenImageEditPipeline.from_pretrained(base_model, dtype=torch.float32)", "edit_pipeline")
    names = {"edit_pipeline": edit_pipeline}
    exec(code.replace("path/to/this/folder", "out"), names)
    (trained,) = draw(trainer.policy, trainer.model, [row], [0], InferenceSettings(32, 32, 2, 1.0))
    assert_same_picture(names["image"], trained)


def test_several_references_train_and_are_shown(tmp_path):
    pipeline = build_qwen_image(pipeline_class=QwenImageEditPlusPipeline)
    seen = []

    def remember(prompts, completions, source_image, **columns):
        seen.extend(len(images) for images in source_image)
        return alternating(prompts, completions)

    dataset = edits(*[[picture(40, 32, seed), picture(32, 48, seed + 9)] for seed in range(4)])
    trainer = trainer_for(pipeline, tmp_path, remember, dataset, eval_dataset=dataset, log_completions=True)
    trainer.train()
    trainer.evaluate()
    assert set(seen) == {2}
    assert history(trainer, "policy/ratio_deviation")[0] < 1e-5


def test_pipeline_that_edits_is_refused_without_sources(tmp_path, edit_pipeline):
    with pytest.raises(ValueError, match=r"train_dataset has no `source_image` column.*`source_column`"):
        trainer_for(edit_pipeline, tmp_path, dataset=Dataset.from_dict({"prompt": INSTRUCTIONS}))
    good = png(picture(32, 32, 0))
    with pytest.raises(ValueError, match=r"Row 2 of train_dataset has a `source_image` .*there is none"):
        trainer_for(edit_pipeline, tmp_path, dataset=edits(good, good, None, good))
    # evaluation will read all of it
    with pytest.raises(ValueError, match=r"Row 1 of eval_dataset has a `source_image` .*is broken"):
        trainer_for(edit_pipeline, tmp_path, eval_dataset=edits(good, good[:-30], good, good))


@pytest.mark.parametrize("streaming", [False, True])
def test_source_that_breaks_in_mid_run_stops_it_with_a_checkpoint(tmp_path, edit_pipeline, streaming):
    good = png(picture(32, 32, 0))
    features = Features({"prompt": Value("string"), "source_image": ImageFeature()})
    rows = [{"bytes": data, "path": None} for data in (good, good, good, good[:-30])]
    dataset = Dataset.from_dict({"prompt": INSTRUCTIONS, "source_image": rows}, features=features)
    trainer = trainer_for(
        edit_pipeline, tmp_path, dataset=dataset.to_iterable_dataset() if streaming else dataset,
        shuffle_dataset=False, max_steps=3, save_strategy="steps", save_steps=10,
    )  # fmt: skip
    with pytest.raises(RowError, match=r"'Remove the circle from the picture' .*broken"):
        trainer.train()
    assert (tmp_path / "out" / "checkpoint-1").is_dir()


def test_instruction_longer_than_the_encoder_takes_is_told(tmp_path, edit_pipeline):
    long = Dataset.from_list(
        [{"prompt": "Remove the circle " * 4000, "source_image": picture(32, 32, seed)} for seed in range(2)]
    )
    with pytest.raises(RowError, match=r"tokens.*shorten it"):
        trainer_for(edit_pipeline, tmp_path, dataset=long).train()
