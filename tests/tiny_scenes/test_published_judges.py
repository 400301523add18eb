"""
The embedded judge answers as published judges do, one of each kind of answer. It knows the same thing as under a rubric whose
criteria count alike, so what training makes of it has to be the same, bit for bit.
"""

import numpy as np
import pytest
import torch
from peft import LoraConfig

from arr_trl import RPOConfig, RPOTrainer, RubricJudge
from arr_trl.judges import JudgeRow, PresetJudge
from arr_trl.tiny_scenes import TinyScenesJudge, edit_prompts, load_edit_pipeline, load_pipeline, prompts
from arr_trl.tiny_scenes.judge import edit_rubric, zero_shot_rubric
from arr_trl.tiny_scenes.scenes import Caption, render


IMAGES = {"label": "image-expectation", "lines": "unifiedreward-2-point", "winner": "unifiedreward-think"}
EDITS = {"numbers": "three-axis", "tag": "edit-rrm"}
ASKED = "a red circle left of a blue square"
# each misses more of what was asked for than the one before
PICTURES = tuple(
    render(Caption.parse(text), np.random.default_rng(0))
    for text in (ASKED, "a red circle right of a blue square", "a red square right of a blue circle",
                 "a green square right of a yellow circle")
)  # fmt: skip


def ranks_of(preset, row, **faults):
    (verdict,) = PresetJudge(preset, TinyScenesJudge(**faults), max_failure_rate=None).compare([row])
    assert faults or verdict.failure is None
    return verdict.ranks


@pytest.mark.parametrize("preset", [*IMAGES.values(), "unifiedreward-point", "reference-yes"])
def test_more_of_what_was_asked_for_is_better_in_every_form(preset):
    row = JudgeRow(ASKED, PICTURES, columns={"reference_image": PICTURES[2]})
    assert ranks_of(preset, row) == (1.0, 2.0, 3.0, 4.0)
    assert ranks_of(preset, JudgeRow(ASKED, PICTURES[::-1], columns=row.columns)) == (4.0, 3.0, 2.0, 1.0)


@pytest.mark.parametrize("preset", [*EDITS.values(), "edit-expectation", "editscore", "viescore-edit", "paco-edit",
                                    "imgedit-judge", "unifiedreward-edit-pair"])  # fmt: skip
def test_an_edit_is_judged_by_its_source_in_every_form(preset):
    row = edit_prompts("test[:1]")[0]
    source = row["source_image"]
    assert ranks_of(preset, JudgeRow(row["prompt"], (PICTURES[3], source), source)) == (2.0, 1.0)


def test_its_faults_are_those_that_it_is_given():
    row = JudgeRow(ASKED, PICTURES[:2])
    assert ranks_of("unifiedreward-think", row, failure_rate=1.0) is None
    assert ranks_of("unifiedreward-think", row, position_bias=1.0) == (1.5, 1.5)
    drawn = {ranks_of("unifiedreward-2-point", row, noise=1.0, seed=seed) for seed in range(8)}
    assert drawn == {(1.0, 2.0), (2.0, 1.0)}


def trained(judge, editing, folder):
    """The adapter after two steps."""
    pipeline = load_edit_pipeline() if editing else load_pipeline()
    trainer = RPOTrainer(
        model=pipeline,
        reward_funcs=judge,
        args=RPOConfig(
            output_dir=str(folder), height=32, width=32, num_inference_steps=4, sde_window_size=1, sde_window_range=(0, 2),
            guidance_scale=1.0 if editing else 3.5, per_device_train_batch_size=32, gradient_accumulation_steps=1,
            learning_rate=6e-4, max_steps=2, save_strategy="no", use_cpu=True, bf16=False, report_to="none",
            disable_tqdm=True, **({"condition_size": 32} if editing else {"max_sequence_length": 12}),
        ),
        train_dataset=(edit_prompts if editing else prompts)("train[:64]"),
        peft_config=LoraConfig(r=4, lora_alpha=8),
    )  # fmt: skip
    trainer.train()
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "lora_" in name}


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [IMAGES, EDITS], ids=["images", "edits"])
def test_every_kind_of_answer_trains_the_adapter_that_a_rubric_trains(kinds, tmp_path):
    editing = kinds is EDITS
    rubric = edit_rubric() if editing else zero_shot_rubric()
    expected = trained(RubricJudge(rubric, TinyScenesJudge()), editing, tmp_path / "rubric")
    assert any(p.abs().max() > 0 for name, p in expected.items() if "lora_B" in name)  # it moved
    for kind, preset in kinds.items():
        found = trained(PresetJudge(preset, TinyScenesJudge()), editing, tmp_path / kind)
        assert all(torch.equal(p, found[name]) for name, p in expected.items()), kind
