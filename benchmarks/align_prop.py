"""
What does a reward with a gradient buy, and what does it cost? AlignProp and its relatives on TinyScenes, whose reader is the
truth and whose soft reader is the reward.

```
python benchmarks/align_prop.py --output outputs/align-prop                                   # all cells, three seeds
python benchmarks/align_prop.py --output outputs/align-prop --only drtune --seeds 0 --steps 40
python benchmarks/align_prop.py --output outputs/align-prop --table                           # what was run so far
```

Each is trained as in the arena, at a constant rate of 6e-4, on fewer pictures. The reward, the truth of the reader and the
statistics are of 240 held-out captions, diversity is of four pictures of the first 60 of them. Passes are forwards and
backwards of the transformer in training, CPU seconds those of training alone, with one thread. What is in the output folder
is not run again.
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import fmean

import torch

from arr_trl import AlignPropConfig, AlignPropTrainer
from arr_trl.evaluation import InferenceSettings, draw, pixel_diversity
from arr_trl.evaluation.picture_statistics import picture_statistics
from arr_trl.rewards.pixels import as_pixels
from arr_trl.tiny_scenes import BASE_MODEL, prompts, soft_success, success, use_one_thread
from arr_trl.trainer.cost import backprop_forwards


CELLS = {
    "drtune": {"backprop_strategy": "random", "backprop_steps": 2, "detach_inputs": True},
    "draft": {"backprop_strategy": "last", "backprop_steps": 2},
    "leap": {"backprop_strategy": "leap"},
    "refl": {"backprop_strategy": "refl"},
    "all": {"backprop_strategy": "last", "backprop_steps": 8},
}
CAPTIONS = prompts("test")["prompt"]
OF_ONE, PICTURES = 4, 60  # pictures of one caption, and captions, that diversity is measured of


def measure(trainer: AlignPropTrainer) -> dict[str, float]:
    """The reward, the truth, the look and the diversity of what the model draws now."""

    def drawn(captions: list[str], number: int) -> list:
        settings = InferenceSettings(32, 32, 8, 3.5, OF_ONE, 1234)
        seeds = [settings.seed_of(i, number) for i in range(len(captions))]
        return draw(trainer.policy, trainer.model, [{"prompt": caption} for caption in captions], seeds, settings)

    images = drawn(CAPTIONS, 0)
    with torch.no_grad():
        reward = soft_success(CAPTIONS, as_pixels(images, torch.device("cpu"))).mean().item()
    met = success(CAPTIONS, images)
    of_one = [images[:PICTURES], *(drawn(CAPTIONS[:PICTURES], number) for number in range(1, OF_ONE))]
    return {
        "reward": reward,
        "truth": fmean(all(of.values()) for of in met),
        **{name: fmean(of[name] for of in met) for name in met[0]},
        "diversity": fmean(pixel_diversity(same) for same in zip(*of_one, strict=True)),
        **{name: fmean(values) for name, values in picture_statistics(images).items()},
    }


def run(cell: str, seed: int, steps: int, pictures: int, folder: Path) -> dict:
    """One training, and what it measured."""
    file = folder / f"{cell},{steps}x{pictures},{seed}.json"
    if file.is_file():
        return json.loads(file.read_text())
    trainer = AlignPropTrainer(
        model=str(BASE_MODEL),
        reward_funcs=soft_success,
        args=AlignPropConfig(
            output_dir=str(folder / file.stem), height=32, width=32, max_sequence_length=12, num_inference_steps=8,
            eval_num_inference_steps=8, per_device_train_batch_size=pictures, gradient_accumulation_steps=1,
            learning_rate=6e-4, lr_scheduler_type="constant", max_steps=steps, seed=seed, logging_steps=5,
            save_strategy="no", gradient_checkpointing=False, use_cpu=True, bf16=False, report_to=[], disable_tqdm=True,
            **CELLS[cell],
        ),
        train_dataset=prompts("train"),
    )  # fmt: skip
    base_file = folder / "base.json"
    if not base_file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with trainer.model.disable_adapter():
            base_file.write_text(json.dumps(measure(trainer)))
    began = time.process_time()
    trainer.train()
    seconds = time.process_time() - began
    costs = [cost.total for cost in backprop_forwards(trainer.args)]
    found = {
        "cell": cell, "seed": seed, "steps": steps, "pictures": steps * pictures, "passes": steps * sum(costs) / len(costs),
        "cpu_seconds": seconds, "base": json.loads(base_file.read_text()), "trained": measure(trainer),
        "log": [{name: e[name] for name in ("step", "reward", "policy/kl", "grad_norm")} for e in trainer.state.log_history
                if "reward" in e],
    }  # fmt: skip
    file.write_text(json.dumps(found, indent=2) + "\n")
    return found


def table(folder: Path) -> str:
    names = (
        "reward",
        "truth",
        "colors",
        "shapes",
        "relation",
        "count",
        "diversity",
        "saturation",
        "contrast",
        "sharpness",
    )
    lines = [
        f"| cell | pictures | seed | {' | '.join(names)} | passes | CPU s |",
        "|" + "---|" * (len(names) + 5),
    ]
    form = {
        "reward": "{:.3f}",
        "diversity": "{:.3f}",
        "saturation": "{:.3f}",
        "contrast": "{:.3f}",
        "sharpness": "{:.3f}",
    }

    def cells(measured: dict[str, float]) -> str:
        return " | ".join(form.get(name, "{:.1%}").format(measured[name]) for name in names)

    if (folder / "base.json").is_file():
        lines.append(f"| base | – | – | {cells(json.loads((folder / 'base.json').read_text()))} | – | – |")
    for file in sorted(folder.glob("*,*.json")):
        found = json.loads(file.read_text())
        lines.append(
            f"| {found['cell']} | {found['pictures']:,} | {found['seed']} | {cells(found['trained'])} "
            f"| {found['passes']:,.0f} | {found['cpu_seconds']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--only", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--pictures", type=int, default=32, help="of each optimizer step")
    parser.add_argument("--table", action="store_true", help="only show what was run")
    args = parser.parse_args()
    if not args.table:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        use_one_thread()
        for cell in args.only:
            for seed in args.seeds:
                run(cell, seed, args.steps, args.pictures, args.output.resolve())
    print(table(args.output))


if __name__ == "__main__":
    main()
