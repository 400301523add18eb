"""
Which pairs teach more, at equal numbers of judged pictures? On the edits of TinyScenes, where the model and the editor are
one.

base         two pictures of an edit by the base
best-worst   of four pictures of an edit the best against the worst
rich         a picture, and what the editor made of it after a critique
mixed        base and rich, half of each, about different edits
from-run     what an RPO run drew and judged, taken from its tables as `arr-trl pairs from-run` does

python benchmarks/preferences.py --output /tmp/preferences                   # three seeds, 200 to 800 judged pictures
python benchmarks/preferences.py --output /tmp/preferences --judged 100 --seeds 0 --max_steps 5 --prompts 20

Each run trains on what is left of so many judged pictures, ties and disagreements counted; those that are in the output
folder are not repeated. Prints a Markdown table and writes preferences.json beside the runs.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import torch

from arr_trl import DiffusionDPOConfig, DiffusionDPOTrainer, RPOConfig, RPOTrainer
from arr_trl.data.completions import find_completions, pairs_of_completions
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
    "all candidates are level",
    "the worst is better than the best",
)  # dropped after the judge was paid
# how many pictures of a prompt are judged
METHODS = {"base": 2, "best-worst": 4, "rich": 2, "mixed": 2, "from-run": 2}
HELD_OUT = 240  # judged pictures of the base, whose pairs the implicit accuracy is of
PAIRS_OF_A_STEP = 50  # of the run whose verdicts become pairs
EDITS = {"height": 32, "width": 32, "condition_size": CONDITION_SIZE, "guidance_scale": 1.0}
QUIET = {
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "disable_tqdm": True,
}


def judged(outcomes: Iterator[PairOutcome], count: int) -> list[PairOutcome]:
    """The outcomes up to the one with which so many prompts were judged."""
    return list(islice((one for one in outcomes if one.made or one.reason in ASKED), count))


@cache
def painter_in(folder: Path) -> Painter:
    """The base, whose pictures are kept for all runs."""
    policy = load_policy(
        str(EDIT_BASE_MODEL), {"height": 32, "width": 32}, {"condition_size": CONDITION_SIZE, "negative_prompt": None}
    )
    return Painter(policy, folder / "pictures", InferenceSettings(32, 32, 8, 1.0), batch_size=64, device="cpu")


def make(method: str, count: int, seed: int, folder: Path, split: str = "train") -> dict[str, int]:
    """A dataset of the pairs that are left of `count` judged pictures; how many there are, in how many the second won."""
    painter, model, config = (
        painter_in(folder.parent),
        TinyScenesJudge(),
        RichPairsConfig(min_edited_wins=0, pictures_seed=seed),
    )
    judge = RubricJudge(edit_rubric(), model, store=folder.parent / "answers.sqlite")
    words = writer(model, VerdictStore(folder.parent / "answers.sqlite"), config)
    of = BestWorstConfig(num_candidates=METHODS[method], pictures_seed=seed)
    drawn, rich = BestWorst(painter, judge, of), RichPairs(painter, painter, words, words, judge, config)
    makers = {"rich": [rich], "mixed": [drawn, rich]}.get(method, [drawn])
    rows, prompts = list(edit_prompts(split)), count // METHODS[method]
    found = [
        one
        for number, maker in enumerate(makers)
        # the halves of a mixture are about different edits
        for one in judged(
            (one for block in maker.write(rows[number :: len(makers)]) for one in block), prompts // len(makers)
        )
    ]
    made = [one for one in found if one.made]
    write_pairs((best_worst_row(one, judge, painter) for one in made), folder / "pairs", PairsFacts("A benchmark."))
    second = sum(one.verdict.winner for one in made)
    return {"judged": len(found) * METHODS[method], "pairs": len(made), "second_won": second}


def make_from_run(count: int, seed: int, folder: Path) -> dict[str, int]:
    """The same of what a run of RPO drew and judged, with the settings of `make quickstart-edit`."""
    steps = count // 2 // PAIRS_OF_A_STEP
    trainer = RPOTrainer(
        model=str(EDIT_BASE_MODEL),
        reward_funcs=RubricJudge(edit_rubric(), TinyScenesJudge()),
        args=RPOConfig(
            output_dir=str(folder / "judged-run"),
            **EDITS,
            num_inference_steps=8,
            num_generations=2,
            sde_type="cps",
            noise_level=0.8,
            sde_window_size=1,
            sde_window_range=[0, 3],
            share_initial_noise=True,
            center_rewards=True,
            beta=0.0,
            per_device_train_batch_size=2 * PAIRS_OF_A_STEP,
            gradient_accumulation_steps=1,
            learning_rate=6e-4,
            lr_scheduler_type="linear",
            max_steps=steps,
            logging_steps=1,
            log_completions=True,
            seed=seed,
            **QUIET,
        ),
        train_dataset=edit_prompts("train"),
    )
    trainer.train()
    rows = pairs_of_completions(find_completions(str(folder / "judged-run")), Counter())
    counts = write_pairs(rows, folder / "pairs", PairsFacts("A benchmark."))
    return {"judged": 2 * steps * PAIRS_OF_A_STEP, "pairs": counts["train"], "second_won": None}


def train(pairs: Path, held_out: Path, folder: Path, seed: int, max_steps: int) -> float:
    """Train the editor on pairs, 32 a step, with SDPO; the implicit accuracy on held-out pairs."""
    trainer = DiffusionDPOTrainer(
        model=str(EDIT_BASE_MODEL),
        args=DiffusionDPOConfig(
            output_dir=str(folder),
            adapter_subfolder="adapter",
            **EDITS,
            loss_type="sdpo",
            beta=100.0,
            num_train_points=2,
            per_device_train_batch_size=32,
            gradient_accumulation_steps=1,
            learning_rate=6e-4,
            lr_scheduler_type="linear",
            max_steps=max_steps,
            logging_steps=max_steps,
            eval_num_inference_steps=8,
            num_eval_samples=1,
            seed=seed,
            **QUIET,
        ),
        train_dataset=preference_rows(str(pairs)),
        eval_dataset=preference_rows(str(held_out)),
    )
    trainer.train()
    trainer.save_model()
    return trainer.evaluate()["eval_rewards/accuracies"]


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
    result, started = folder / "result.json", time.process_time()
    if not result.is_file():
        made = make_from_run(count, seed, folder) if method == "from-run" else make(method, count, seed, folder)
        accuracy = train(folder / "pairs", folder.parent / "held-out" / "pairs", folder / "run", seed, max_steps)
        trained = success(prompts, folder / "run" / "adapter")
        found = {"method": method, "seed": seed, **made, "accuracy": accuracy, "trained": trained}
        found["cpu_s"] = round(time.process_time() - started)
        result.write_text(json.dumps(found, indent=2) + "\n")
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--judged", type=int, nargs="+", default=[200, 400, 800], help="pictures that are judged")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max_steps", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=240, help="held-out edits that success is measured on")
    args = parser.parse_args()
    use_one_thread()
    found = []
    print(f"The base meets everything in {success(args.prompts):.1%} of {args.prompts} held-out edits.\n")
    if not (args.output / "held-out" / "pairs").is_dir():
        (args.output / "held-out").mkdir(parents=True, exist_ok=True)
        make("base", HELD_OUT, 0, args.output / "held-out", "test")
    print("| judged pictures | pairs of | seed | pairs | the second won | accuracy, held out | success | CPU s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for count in args.judged:
        for method in args.methods:
            for seed in args.seeds:
                folder = args.output / f"{count}-{method}-{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                one = run(method, count, seed, folder, args.max_steps, args.prompts)
                found.append(one)
                print(
                    f"| {one['judged']} | {method} | {seed} | {one['pairs']} | {one['second_won']} | "
                    f"{one['accuracy']:.1%} | {one['trained']:.1%} | {one['cpu_s']} |",
                    flush=True,
                )
    (args.output / "preferences.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
