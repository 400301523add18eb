"""
What a GPU must not change: run by `pytest -m gpu tests/gpu`, and by benchmarks/gpu_visit.py. Where there is none the same
runs on the CPU, and shows only that the tests themselves work.
"""

import pytest
import torch
from datasets import Dataset
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from oracle import picture
from peft import LoraConfig
from tiny_pipelines import build_flux, build_flux2, build_flux_kontext, build_qwen_image, build_sd3, build_z_image

from arr_trl import RPOConfig, RPOTrainer


pytestmark = pytest.mark.gpu
ON_A_GPU = torch.cuda.is_available()

# pipeline, settings of the family, guidance scale
FAMILIES = {
    "flux": (build_flux, {"max_sequence_length": 32}, 3.5),
    "kontext": (build_flux_kontext, {"max_sequence_length": 32, "condition_size": 64}, 2.5),
    "flux2": (build_flux2, {"max_sequence_length": 160}, 4.0),
    "klein": (lambda: build_flux2(klein=True), {"max_sequence_length": 64}, 4.0),
    "qwen": (build_qwen_image, {}, 4.0),
    "qwen edit": (lambda: build_qwen_image(0, QwenImageEditPipeline), {"condition_size": 64}, 4.0),
    "qwen edit plus": (lambda: build_qwen_image(0, QwenImageEditPlusPipeline), {"condition_size": 64}, 4.0),
    "sd3": (build_sd3, {"max_sequence_length": 32}, 7.0),
    "z_image": (build_z_image, {}, 5.0),
}
ROWS = [
    {"prompt": "Make the circle green", "source_image": picture(64, 64, 0)},
    {"prompt": "Remove", "source_image": picture(96, 48, 1)},
]


@pytest.fixture(autouse=True)
def _whole_float32():
    """A GPU rounds the factors of a float32 product to 10 bits where it may, and no figure of a CPU is like that."""
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed


def second_is_better(prompts, completions, **columns):
    return [float(i % 2) for i in range(len(completions))]


def trained(name, folder, on_a_gpu=ON_A_GPU, **settings):
    """The adapter after two steps of plain gradient descent, and what was logged."""
    build, of_family, guidance_scale = FAMILIES[name]
    torch.manual_seed(0)
    trainer = RPOTrainer(
        model=build(),
        reward_funcs=second_is_better,
        args=RPOConfig(
            output_dir=str(folder),
            height=48,
            width=64,
            num_inference_steps=3,
            sde_window_size=2,
            guidance_scale=guidance_scale,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=1,
            max_steps=2,
            optim="sgd",  # Adam would make a step of the same size from a gradient that is nothing but rounding
            learning_rate=1.0,
            lr_scheduler_type="constant",
            logging_steps=1,
            use_cpu=not on_a_gpu,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **{"bf16": False, **of_family, **settings},
        ),
        train_dataset=Dataset.from_list(ROWS if "condition_size" in of_family else [{"prompt": r["prompt"]} for r in ROWS]),
        peft_config=LoraConfig(r=2, lora_alpha=4, init_lora_weights=False),
    )  # fmt: skip
    before = torch.cat([p.detach().flatten().cpu() for n, p in trainer.model.named_parameters() if "lora_" in n])
    trainer.train()
    assert all(p.device.type == ("cuda" if on_a_gpu else "cpu") for p in trainer.model.parameters())
    after = torch.cat([p.detach().flatten().cpu() for n, p in trainer.model.named_parameters() if "lora_" in n])
    return after - before, [entry for entry in trainer.state.log_history if "loss" in entry]


def far_apart(moved, other):
    return float((moved - other).norm() / other.norm())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_on_the_gpu_is_that_of_the_cpu(name, tmp_path):
    on_cpu, _ = trained(name, tmp_path / "cpu", on_a_gpu=False)
    on_gpu, _ = trained(name, tmp_path / "gpu")
    assert on_cpu.norm() > 0
    assert far_apart(on_gpu, on_cpu) < 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_the_ratio_is_one_in_bfloat16(name, tmp_path, record_property):
    """Before the first update a trained step is the one that was sampled: whatever differs is batching and rounding."""
    _, logs = trained(name, tmp_path, bf16=True)
    record_property("ratio_deviation", logs[0]["policy/ratio_deviation"])
    assert logs[0]["policy/ratio_deviation"] < 0.02


@pytest.mark.parametrize("name", ["flux", "qwen edit", "sd3"])
def test_offloaded_blocks_change_no_bit(name, tmp_path):
    whole, _ = trained(name, tmp_path / "whole", gradient_checkpointing=True)
    settings = {"offload_blocks": True} if ON_A_GPU else {}
    offloaded, _ = trained(name, tmp_path / "offloaded", gradient_checkpointing=True, **settings)
    assert torch.equal(whole, offloaded)


@pytest.mark.skipif(not ON_A_GPU, reason="tests/runtime/test_profiling.py compiles on the CPU")
def test_compiled_blocks_change_no_more_than_rounding(tmp_path):
    plain, _ = trained("flux", tmp_path / "plain")
    compiled, _ = trained("flux", tmp_path / "compiled", compile_blocks=True)
    assert far_apart(compiled, plain) < 1e-3
