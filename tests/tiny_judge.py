"""A judge of a few hundred kB to be trained, its question, and pairs that red pictures win."""

import json
from pathlib import Path

from datasets import Dataset
from PIL import Image
from tiny_vlm import build_vlm

from arr_trl.judge_training import FirstTokenSFTConfig
from arr_trl.judges import Ask, Preset, save_preset


def preset(
    images=("candidate",),
    template='{{ image("candidate") }}{{ prompt }}?',
    labels=("Y", "N"),
    read=None,
    **overrides,
) -> Preset:
    ask = Ask(
        name="red",
        images=images,
        template=template,
        read=read or {"labels": dict(zip(labels, (1, 0), strict=True))},
        max_tokens=1,
    )
    return Preset(**{"name": "is-it", "version": "1", "asks": (ask,), "scale": (0, 1), **overrides})


def pairs(count: int = 4, **columns) -> Dataset:
    """Pairs of one color each, the red one preferred."""
    rows = [
        {
            "prompt": "red",
            "chosen": Image.new("RGB", (28, 28), (200 + i, 10, 10)),
            "rejected": Image.new("RGB", (28, 28), (10, 10, 200 + i)),
        }
        for i in range(count)
    ]
    return Dataset.from_list(
        [row | {name: values[i] for name, values in columns.items()} for i, row in enumerate(rows)]
    )


def config(output_dir, **overrides) -> FirstTokenSFTConfig:
    settings = dict(
        output_dir=str(output_dir), per_device_train_batch_size=2, gradient_accumulation_steps=1, max_steps=2,
        learning_rate=0.01, lr_scheduler_type="constant", warmup_steps=0, logging_steps=1, save_strategy="no", use_cpu=True,
        bf16=False, report_to=[], disable_tqdm=True, gradient_checkpointing=False, seed=3,
    )  # fmt: skip
    return FirstTokenSFTConfig(**(settings | overrides))


def build_model(folder) -> str:
    """A model of random weights, one token per character."""
    build_vlm(folder)
    return str(folder)


def write_files(folder: Path) -> Path:
    """A model, a question, and pairs that red pictures win, the winner in either place, for commands."""
    build_model(folder / "model")
    save_preset(preset(), folder / "preset")
    for split, shades in (("train", range(6)), ("test", range(6, 10))):
        rows = []
        for i in shades:
            for name, color in (("red", (190 + 6 * i, 10, 10)), ("blue", (10, 10, 190 + 6 * i))):
                Image.new("RGB", (28, 28), color).save(folder / f"{name}-{i}.png")
            names = [f"red-{i}.png", f"blue-{i}.png"]
            order = 1 if i % 2 else -1
            rows.append({"prompt": "red", "response": names[::order], "label_rank": [1, 2][::order]})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
