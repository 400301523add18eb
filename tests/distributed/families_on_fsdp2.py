"""
Trains families one after the other under FSDP2 on CPUs, in every process that `accelerate launch` starts with fsdp2.yaml.

accelerate launch --config_file fsdp2.yaml --num_processes 2 families_on_fsdp2.py FOLDER FAMILY ...
"""

import sys
from pathlib import Path


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "policies")]

import torch  # noqa: E402
from accelerate import PartialState  # noqa: E402
from datasets import Dataset  # noqa: E402
from fsdp2_on_cpu import initialize_as_gpus  # noqa: E402
from peft import LoraConfig  # noqa: E402
from test_training import FAMILIES, rows_of, second_is_better  # noqa: E402

from arr_trl import RPOConfig, RPOTrainer  # noqa: E402


def train(name: str, folder: Path, rows_of_a_process: int) -> None:
    """A rollout of two prompts, and an optimizer step on it."""
    build, settings, guidance_scale = FAMILIES[name]
    rows = rows_of(name)
    torch.manual_seed(0)
    trainer = RPOTrainer(
        model=build(),
        reward_funcs=second_is_better,
        args=RPOConfig(
            output_dir=str(folder),
            height=32,
            width=64,
            num_inference_steps=3,
            sde_window_size=2,
            guidance_scale=guidance_scale,
            per_device_train_batch_size=rows_of_a_process,
            gradient_accumulation_steps=1,
            max_steps=1,
            learning_rate=1e-2,
            optim="sgd",  # AdamW makes steps of a size even where a gradient is nothing but rounding
            gradient_checkpointing=True,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=2, lora_alpha=4, init_lora_weights=False),
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    if trainer.args.world_size == 1:  # whose weights are whole
        assert any(not torch.equal(p, before[n]) for n, p in trainer.model.named_parameters() if n in before)
    trainer.save_model()


if __name__ == "__main__":
    PartialState.__init__ = initialize_as_gpus
    for family in sys.argv[2:]:
        train(family, Path(sys.argv[1], family), 4)
