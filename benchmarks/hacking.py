"""
Is a reward that is gamed seen before the truth suffers? TinyScenes with a judge that has a blind spot, and with one that has
none.

```
python benchmarks/hacking.py --output outputs/hacking
```

The blind judge reads colors, shapes and relation, does not see stray objects, and likes saturation. Beside it the embedded
judge under the rubric is watched. Every ten steps 120 held-out captions are drawn, and the truth is read from the pixels.
Each run is repeated with an average of the adapter (`ema_decay`), what of the gain is left is the difference.
"""

import argparse
import json
import os
from pathlib import Path

from arr_trl import DiffusionNFTConfig, DiffusionNFTTrainer, RubricJudge
from arr_trl.evaluation.picture_statistics import picture_statistics
from arr_trl.tiny_scenes import BASE_MODEL, TinyScenesJudge, prompts, success, use_one_thread
from arr_trl.trainer.hacking import HackingCallback


RUBRIC = Path(__file__).parents[1] / "examples" / "rubrics" / "tiny_scenes.json"
SEEN = ("colors", "shapes", "relation")


def blind(prompts, completions, **columns):
    """What a judge with a blind spot would give: nothing for stray objects, much for saturation."""
    met = success(prompts, completions)
    liking = [6 * saturation for saturation in picture_statistics(completions)["saturation"]]
    return [sum(of_one[name] for name in SEEN) + like for of_one, like in zip(met, liking, strict=True)]


def rubric_judge():
    judge = RubricJudge(rubric=str(RUBRIC), model=TinyScenesJudge())
    judge.__name__ = "rubric"
    return judge


def run(folder: Path, gamed: bool, seed: int, steps: int, **settings) -> dict:
    """One training; what it found, and when it was warned."""
    trainer = DiffusionNFTTrainer(
        model=str(BASE_MODEL),
        reward_funcs=blind if gamed else rubric_judge(),
        watch_funcs=rubric_judge() if gamed else None,
        args=DiffusionNFTConfig(
            output_dir=str(folder), height=32, width=32, max_sequence_length=12, num_inference_steps=8,
            eval_num_inference_steps=8, num_generations=4, num_train_points=2, beta=0.0, per_device_train_batch_size=256,
            gradient_accumulation_steps=1, learning_rate=6e-4, lr_scheduler_type="constant", max_steps=steps, seed=seed,
            logging_steps=2, watch_every=2, eval_strategy="steps", eval_steps=10, per_device_eval_batch_size=60,
            save_strategy="no", gradient_checkpointing=False, use_cpu=True, bf16=False, report_to=[], disable_tqdm=True,
            **settings,
        ),
        train_dataset=prompts("train"),
        eval_dataset=prompts("test").select(range(120)),
        eval_funcs=success,
    )  # fmt: skip
    warned = {}

    class Warned(HackingCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            super().on_log(args, state, control, logs, **kwargs)
            warned.update({kind: state.global_step for kind in self.warnings if kind not in warned})

    trainer.remove_callback(HackingCallback)
    trainer.add_callback(Warned())
    trainer.train()
    history = trainer.state.log_history
    found = {
        "gamed": gamed, "seed": seed, **settings,
        "truth": [(e["step"], e["eval_success_all"]) for e in history if "eval_success_all" in e],
        "warned": warned,
        "history": history,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hacking.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--only", choices=["clean", "blind", "blind_ema"])
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    use_one_thread()
    print("| judge | seed | truth at steps | first warning of each kind |")
    print("|---|---|---|---|")
    runs = {"clean": (False, {}), "blind": (True, {}), "blind_ema": (True, {"ema_decay": 0.9})}
    for name, (gamed, settings) in runs.items():
        for seed in args.seeds:
            if args.only not in (None, name):
                continue
            found = run(args.output / f"{name}-{seed}", gamed, seed, args.steps, **settings)
            truth = ", ".join(f"{step}: {value:.0%}" for step, value in found["truth"])
            print(f"| {name} | {seed} | {truth} | {found['warned'] or '–'} |", flush=True)


if __name__ == "__main__":
    main()
