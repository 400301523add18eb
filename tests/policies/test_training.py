"""Every family trains: candidates, loss, adapter, from rows to the saved files."""

import pytest
import torch
from datasets import Dataset
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from oracle import picture
from peft import LoraConfig
from tiny_newer_pipelines import (
    build_flux_fill,
    build_flux_inpaint,
    build_krea2,
    build_longcat_image,
    build_lumina2,
    build_ovis_image,
    build_qwen_image_2_1,
    build_qwen_image_inpaint,
    build_z_image_omni,
)
from tiny_pipelines import build_flux2, build_flux_kontext, build_qwen_image, build_sd3, build_z_image

from arr_trl import RPOConfig, RPOTrainer


# pipeline, settings of the family, guidance scale
FAMILIES = {
    "kontext": (build_flux_kontext, {"max_sequence_length": 32, "condition_size": 64}, 2.5),
    "flux2": (build_flux2, {"max_sequence_length": 160}, 4.0),
    "klein edit": (lambda: build_flux2(klein=True), {"max_sequence_length": 64}, 4.0),
    "qwen": (build_qwen_image, {}, 4.0),
    "qwen edit": (lambda: build_qwen_image(0, QwenImageEditPipeline), {"condition_size": 64}, 4.0),
    "qwen edit plus": (lambda: build_qwen_image(0, QwenImageEditPlusPipeline), {"condition_size": 64}, 4.0),
    "sd3": (build_sd3, {"max_sequence_length": 32}, 7.0),
    "z_image": (build_z_image, {}, 5.0),
    "krea2": (build_krea2, {}, 4.5),
    "lumina2": (build_lumina2, {}, 4.0),
    "longcat": (build_longcat_image, {}, 4.5),
    "ovis": (build_ovis_image, {"max_sequence_length": 64}, 5.0),
    "fill edit": (build_flux_fill, {"max_sequence_length": 32}, 30.0),
    "flux inpaint edit": (build_flux_inpaint, {"max_sequence_length": 32}, 7.0),
    "qwen inpaint edit": (build_qwen_image_inpaint, {}, 4.0),
    "omni edit": (build_z_image_omni, {}, 5.0),
    "qwen 2.1 edit": (build_qwen_image_2_1, {"condition_size": 64}, 4.0),
}
ROWS = [
    {"prompt": "Make the circle green", "source_image": picture(64, 64, 0), "mask_image": picture(64, 64, 2)},
    {"prompt": "Remove", "source_image": picture(96, 64, 1), "mask_image": picture(64, 64, 3)},
]


def rows_of(name):
    """Those of a family, without sources where it edits none or, as klein, only the rows that have some."""
    return ROWS if "edit" in name or name == "kontext" else [{"prompt": row["prompt"]} for row in ROWS]


def second_is_better(prompts, completions, **columns):
    return [float(i % 2) for i in range(len(completions))]


# inpainting has the networks of FLUX.1 and Qwen-Image
SLOW = ("flux inpaint edit", "qwen inpaint edit")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FAMILIES])
def test_adapter_moves_and_is_saved(name, tmp_path):
    build, settings, guidance_scale = FAMILIES[name]
    rows = rows_of(name)
    trainer = RPOTrainer(
        model=build(),
        reward_funcs=second_is_better,
        args=RPOConfig(
            output_dir=str(tmp_path),
            height=32,
            width=64,
            num_inference_steps=3,
            sde_window_size=2,
            rollout_batch_size=1,  # prompts of different lengths meet again in the buffer
            guidance_scale=guidance_scale,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=1,
            max_steps=2,
            learning_rate=1e-2,
            logging_steps=1,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=2, lora_alpha=4),
    )
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    # in the last block of some families nothing reads what becomes of the text
    moved = {n: not torch.equal(p, before[n]) for n, p in trainer.model.named_parameters()}
    assert not any(moved[n] for n in moved if "lora_" not in n)
    adapter = [moved[n] for n in moved if "lora_" in n]
    assert sum(adapter) > 0.8 * len(adapter)
    deviations = [e["policy/ratio_deviation"] for e in trainer.state.log_history if "policy/ratio_deviation" in e]
    assert len(deviations) == 2
    assert max(deviations) < 1e-5
    trainer.save_model()
    assert (trainer.adapter_folder / "pytorch_lora_weights.safetensors").is_file()
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text()
    assert ('image=load_image("source.png")' in card) is (rows is ROWS)
    assert ("mask_image=" in card) is ("fill" in name or "inpaint" in name)
    assert trainer.transformer_forwards > 0
