"""Pairs of small pictures, and a trainer on them."""

import copy
from functools import cache

import torch
from datasets import Dataset, Features, Image, Value
from peft import LoraConfig
from PIL import Image as PILImage

from arr_trl import DiffusionDPOConfig, DiffusionDPOTrainer
from arr_trl.data.preference_rows import preference_rows
from arr_trl.tiny_scenes import build_pipeline, preferences


SMALL = dict(
    height=32,
    width=32,
    max_sequence_length=12,
    eval_num_inference_steps=2,
    num_train_points=2,
    per_device_train_batch_size=2,
    gradient_accumulation_steps=1,
    max_steps=1,
    learning_rate=1e-2,
    beta=100.0,
    logging_steps=1,
    bf16=False,
    use_cpu=True,
    report_to=[],
    save_strategy="no",
    gradient_checkpointing=False,
    disable_tqdm=True,
)


@cache
def rows(count=4):
    drawn = preferences(count)
    features = Features({"prompt": Value("string"), "chosen": Image(), "rejected": Image()})
    return Dataset.from_list(
        [
            {"prompt": pair.prompt, "chosen": pair.images[pair.winner], "rejected": pair.images[1 - pair.winner]}
            for pair in drawn
        ],
        features=features,
    )


def build(pipeline, tmp_path, dataset=None, eval_dataset=None, rewards=None, eval_funcs=None, lora=None, **overrides):
    return DiffusionDPOTrainer(
        model=copy.deepcopy(pipeline),
        args=DiffusionDPOConfig(**{"output_dir": str(tmp_path / "out"), **SMALL, **overrides}),
        train_dataset=rows() if dataset is None else dataset,
        eval_dataset=eval_dataset,
        reward_funcs=rewards,
        eval_funcs=eval_funcs,
        peft_config=LoraConfig(r=2, lora_alpha=4) if "adapter_path" not in overrides else None,
    )


def away(trainer):
    """The trained adapter, which is at first no adapter at all, moved."""
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if "lora_B.default" in name:
                p.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    return trainer


def rankings(count=4, n=3):
    """The pictures of several pairs as rankings of `n`, the first the best."""
    found = rows(count * n)
    groups = [[found[g * n + k]["chosen"] for k in range(n)] for g in range(count)]
    features = Features({"prompt": Value("string"), "images": [Image()], "scores": [Value("float64")]})
    scores = [[1 - k / (n - 1) for k in range(n)]] * count
    return Dataset.from_dict(
        {"prompt": found["prompt"][:count], "images": groups, "scores": scores}, features=features
    )


def plain(color, size=(32, 32)):
    return PILImage.new("RGB", size, color)


def train_on_file(output_dir, file, streaming=True, ranks=1, **overrides):
    """A run of six steps of four pairs that goes on from its last checkpoint, in as many processes as there are ranks."""
    settings = {
        "output_dir": str(output_dir),
        "adapter_subfolder": "ARR-tiny",
        "per_device_train_batch_size": 4 // ranks,
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 1,
        "learning_rate": 1e-3,
        "shuffle_buffer_size": 8,
        "sync_ref_model": True,
        "ref_model_sync_steps": 2,
    }
    trainer = build(
        build_pipeline(seed=0), output_dir, preference_rows(file, streaming=streaming), **{**settings, **overrides}
    )
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model()
