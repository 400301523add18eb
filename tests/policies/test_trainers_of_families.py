"""Every trainer trains every family: two optimizer steps each, with checkpointed blocks. RPO's are in test_training.py."""

import pytest
import torch
from datasets import Dataset
from oracle import picture
from peft import LoraConfig
from test_training import FAMILIES, rows_of, second_is_better

from arr_trl import (
    AlignPropConfig,
    AlignPropTrainer,
    DiffusionDPOConfig,
    DiffusionDPOTrainer,
    DiffusionNFTConfig,
    DiffusionNFTTrainer,
    FlowGRPOConfig,
    FlowGRPOTrainer,
)


def contrast(prompts, pixels, **columns):
    """A reward with a gradient, another one for each pixel."""
    return 30 * (pixels * torch.linspace(-1, 1, pixels.shape[-1])).mean((1, 2, 3))


STEPS = {"num_inference_steps": 4}
CANDIDATES = {"num_generations": 2, "per_device_train_batch_size": 8}
# trainer, its configuration, its own settings, what rewards
TRAINERS = {
    "Flow-GRPO": (
        FlowGRPOTrainer,
        FlowGRPOConfig,
        {**STEPS, **CANDIDATES, "sde_window_size": 2, "steps_per_generation": 1},
        {"reward_funcs": second_is_better},
    ),
    "DiffusionNFT": (
        DiffusionNFTTrainer,
        DiffusionNFTConfig,
        {**STEPS, **CANDIDATES, "num_train_points": 2},
        {"reward_funcs": second_is_better},
    ),
    "DiffusionDPO": (DiffusionDPOTrainer, DiffusionDPOConfig, {"per_device_train_batch_size": 2}, {}),
    "AlignProp": (
        AlignPropTrainer,
        AlignPropConfig,
        {**STEPS, "per_device_train_batch_size": 2, "backprop_steps": 2},
        {"reward_funcs": contrast},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("trainer_name", TRAINERS)
@pytest.mark.parametrize("name", FAMILIES)
def test_adapter_moves_and_the_base_stays(name, trainer_name, tmp_path):
    build, settings, guidance_scale = FAMILIES[name]
    trainer_class, config_class, own, rewards = TRAINERS[trainer_name]
    rows = rows_of(name)
    if trainer_name == "DiffusionDPO":
        rows = [row | {"chosen": picture(64, 32, i), "rejected": picture(64, 32, 9)} for i, row in enumerate(rows)]
    trainer = trainer_class(
        model=build(),
        args=config_class(
            output_dir=str(tmp_path),
            height=32,
            width=64,
            guidance_scale=guidance_scale,
            gradient_accumulation_steps=1,
            max_steps=2,
            learning_rate=1e-2,
            gradient_checkpointing=True,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **own,
            **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=2, lora_alpha=4),
        **rewards,
    )
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {n: not torch.equal(p, before[n]) for n, p in trainer.model.named_parameters()}
    assert not any(moved[n] for n in moved if "lora_" not in n)
    adapter = [moved[n] for n in moved if "lora_" in n]
    assert sum(adapter) > 0.8 * len(adapter)
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    deviations = [e["policy/ratio_deviation"] for e in trainer.state.log_history if "policy/ratio_deviation" in e]
    assert max(deviations, default=0) < 1e-5
