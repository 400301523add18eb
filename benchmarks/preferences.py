"""
Which pairs teach more: rich ones, the best against the worst, or both mixed, at equal numbers of judged pictures? On the
edits of TinyScenes, where the model and the editor are one.

python benchmarks/preferences.py --output /tmp/preferences                        # three seeds, 100 to 400 judged pairs
python benchmarks/preferences.py --output /tmp/preferences --judged 50 --seeds 0 --max_steps 5 --prompts 20

Each run trains on what is left of so many judged pairs, ties and disagreements counted; those that are in the output folder
are not repeated. Prints a Markdown table and writes preferences.json beside the runs.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from arr_trl import DiffusionDPOConfig, DiffusionDPOTrainer
from arr_trl.data.preference_rows import preference_rows
from arr_trl.evaluation.pictures import InferenceSettings
from arr_trl.judges import RubricJudge, VerdictStore
from arr_trl.pairs import BestWorst, BestWorstConfig, Painter, PairOutcome, RichPairs, RichPairsConfig
from arr_trl.pairs.rich import writer
from arr_trl.pairs.rows import best_worst_row
from arr_trl.policies import load_policy
from arr_trl.release.pairs import PairsFacts, write_pairs
from arr_trl.tiny_scenes import (
    CONDITION_SIZE,
    EDIT_BASE_MODEL,
    TinyScenesJudge,
    edit_pictures,
    edit_prompts,
    edit_success,
    load_edit_pipeline,
    use_one_thread,
)
from arr_trl.tiny_scenes.judge import edit_rubric


ASKED = (
    "tie",
    "orders disagree",
    "no verdict",
    "the worst is better than the best",
)  # dropped after the judge was paid
METHODS = ("best-worst", "rich", "mixed")


def judged(outcomes: Iterator[PairOutcome], count: int) -> list[PairOutcome]:
    """The outcomes up to the one with which so many pairs were judged."""
    return list(islice((one for one in outcomes if one.made or one.reason in ASKED), count))


def make(method: str, count: int, seed: int, folder: Path) -> dict[str, int]:
    """A dataset of the pairs that are left of `count` judged ones; how many there are, and in how many the second won."""
    policy = load_policy(
        str(EDIT_BASE_MODEL), {"height": 32, "width": 32}, {"condition_size": CONDITION_SIZE, "negative_prompt": None}
    )
    painter = Painter(
        policy, folder.parent / "pictures", InferenceSettings(32, 32, 8, 1.0), batch_size=64, device="cpu"
    )
    model, store = TinyScenesJudge(), folder.parent / "answers.sqlite"
    judge = RubricJudge(edit_rubric(), model, store=store)
    rows = list(edit_prompts("train"))
    of_best_worst = BestWorst(painter, judge, BestWorstConfig(num_candidates=2, pictures_seed=seed))
    config = RichPairsConfig(min_edited_wins=0, pictures_seed=seed)
    words = writer(model, VerdictStore(store), config)
    of_rich = RichPairs(painter, painter, words, words, judge, config)
    makers = {"best-worst": [of_best_worst], "rich": [of_rich], "mixed": [of_best_worst, of_rich]}[method]
    found = [
        one
        for number, maker in enumerate(makers)
        # the halves of a mixture are about different edits
        for one in judged(
            (one for block in maker.write(rows[number :: len(makers)]) for one in block), count // len(makers)
        )
    ]
    made = [one for one in found if one.made]
    write_pairs((best_worst_row(one, judge, painter) for one in made), folder / "pairs", PairsFacts("A benchmark."))
    return {"judged": len(found), "pairs": len(made), "second_won": sum(one.verdict.winner for one in made)}


def train(pairs: Path, folder: Path, seed: int, max_steps: int) -> float:
    """Train the editor on pairs, 32 a step, else with the settings of `make quickstart-dpo`; the last implicit accuracy."""
    trainer = DiffusionDPOTrainer(
        model=str(EDIT_BASE_MODEL),
        args=DiffusionDPOConfig(
            output_dir=str(folder),
            adapter_subfolder="adapter",
            height=32,
            width=32,
            condition_size=CONDITION_SIZE,
            guidance_scale=1.0,
            loss_type="sdpo",
            beta=100.0,
            num_train_points=2,
            per_device_train_batch_size=32,
            gradient_accumulation_steps=1,
            gradient_checkpointing=False,
            learning_rate=6e-4,
            lr_scheduler_type="linear",
            max_steps=max_steps,
            logging_steps=max_steps,
            save_strategy="no",
            seed=seed,
            use_cpu=True,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=preference_rows(str(pairs)),
    )
    trainer.train()
    trainer.save_model()
    return next(e["rewards/accuracies"] for e in reversed(trainer.state.log_history) if "rewards/accuracies" in e)


def success(prompts: int, adapter: Path | None = None) -> float:
    """Share of held-out edits that meet everything, drawn by the editor with an adapter or without."""
    pipeline = load_edit_pipeline()
    if adapter is not None:
        pipeline.load_lora_weights(str(adapter))
    rows = edit_prompts(f"test[:{prompts}]")
    instructions, sources = list(rows["prompt"]), list(rows["source_image"])
    pictures = edit_pictures(pipeline, instructions, sources, torch.Generator().manual_seed(0))
    met = edit_success(instructions, pictures, sources)
    return sum(all(one.values()) for one in met) / len(met)


def run(method: str, count: int, seed: int, folder: Path, max_steps: int, prompts: int) -> dict:
    """One training run; returns what it measured."""
    result = folder / "result.json"
    if not result.is_file():
        made = make(method, count, seed, folder)
        accuracy = train(folder / "pairs", folder / "run", seed, max_steps)
        trained = success(prompts, folder / "run" / "adapter")
        found = {"method": method, "seed": seed, **made, "accuracy": accuracy, "trained": trained}
        result.write_text(json.dumps(found, indent=2) + "\n")
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--judged", type=int, nargs="+", default=[100, 200, 400], help="pairs that are judged")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max_steps", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=240, help="held-out edits that success is measured on")
    args = parser.parse_args()
    use_one_thread()
    found = []
    print(f"The base meets everything in {success(args.prompts):.1%} of {args.prompts} held-out edits.\n")
    print("| judged pairs | method | seed | pairs | the second won | accuracy | success |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for count in args.judged:
        for method in args.methods:
            for seed in args.seeds:
                folder = args.output / f"{count}-{method}-{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                one = run(method, count, seed, folder, args.max_steps, args.prompts)
                found.append(one)
                print(
                    f"| {one['judged']} | {method} | {seed} | {one['pairs']} | {one['second_won']} | {one['accuracy']:.2f} | "
                    f"{one['trained']:.1%} |",
                    flush=True,
                )
    (args.output / "preferences.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
