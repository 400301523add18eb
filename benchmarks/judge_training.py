"""
What a judge learns on TinyScenes, and what a generator learns under it.

python benchmarks/judge_training.py --output outputs/tiny-judges                            # all of it, three seeds
python benchmarks/judge_training.py --output outputs/tiny-judges --parts sft gcpo --seeds 0
python benchmarks/judge_training.py --output outputs/tiny-judges --parts sft --set max_steps=10 --set eval_limit=20

`sft`: first-token training from the model that ships. `nft`: DiffusionNFT under the judge of `sft`, and under the embedded
judge with the same settings. `gcpo`: a short cold start with reports that are true, then GCPO on pairs. `taught`: first-token
training on the verdicts of the embedded judge under a rubric of its own, from its store, in place of labels. What is in the output folder is not
repeated. Prints Markdown tables; CPU seconds are those of the commands, evaluation included.
"""

import argparse
import json
import time
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig

from arr_trl import Rubric, RubricJudge
from arr_trl.chat.vlm import load_processor, load_vlm
from arr_trl.cli.judge_train import LINEAR_LAYERS
from arr_trl.cli.main import main as arr_trl
from arr_trl.data import load_image
from arr_trl.judge_training import FirstTokenSFTConfig, FirstTokenSFTTrainer, question_rows
from arr_trl.judges import JudgeRow, load_preset
from arr_trl.rubrics import Criterion
from arr_trl.tiny_scenes import Caption, TinyScenesJudge, check, pairs, read, use_one_thread
from arr_trl.tiny_scenes.rubric_writer import GENERAL
from arr_trl.tiny_scenes.vlm import report


PARTS = ("sft", "nft", "gcpo", "taught")
_COLD_PAIRS, _COLD_EPOCHS = 64, 12


def command(folder: Path, *argv: str) -> None:
    """A command of arr-trl with its output folder, unless it has been run; its CPU seconds are kept there."""
    if (folder / "cpu_seconds").is_file():
        return
    started = time.process_time()
    status = arr_trl([*argv, "--output_dir", str(folder)])
    if status:
        raise SystemExit(f"arr-trl {' '.join(argv)} ended with {status}.")
    (folder / "cpu_seconds").write_text(f"{time.process_time() - started:.0f}")


def seconds(folder: Path) -> str:
    return (folder / "cpu_seconds").read_text()


def accuracy(folder: Path, when: str) -> str:
    """On held-out pairs, either order, with its interval."""
    found = json.loads((folder / "judge_eval.json").read_text())[when]
    low, high = found["accuracy_mean_ci"]
    return f"{found['accuracy_mean']:.1%} [{low:.1%}, {high:.1%}]"


def sft(folder: Path, seed: int, given: list[str]) -> list[str]:
    command(folder, "judge", "train", "--config", "tiny_scenes_judge", "--seed", str(seed), *given)
    return [accuracy(folder, "before"), accuracy(folder, "after"), seconds(folder)]


def nft(folder: Path, judge: Path, seed: int, given: list[str]) -> list[str]:
    cells = []
    for name, asked in (
        ("trained", ["--judge_preset", str(judge)]),
        ("embedded", ["--judge_preset", "tiny_scenes", "--judge_model", "tiny_scenes", "--judge_local", "false"]),
    ):
        command(folder / name, "nft", "--config", "tiny_scenes_nft_judge", "--seed", str(seed), *asked, *given)
        found = json.loads((folder / name / "results.json").read_text())
        cells += [f"{found['trained']['success_all']:.1%}", seconds(folder / name)]
    return cells


def cold_start(folder: Path, seed: int) -> None:
    """A judge that has the form: it learned true reports, of few pictures."""
    if (folder / "adapter_config.json").is_file():
        return
    preset, few = load_preset("tiny_scenes_report"), pairs(f"train[:{_COLD_PAIRS}]")
    asked, rows = question_rows(few, preset), []
    for i, row in enumerate(asked):
        picture = load_image(few[i // 2][row["side"]])
        met = check(Caption.parse(few[i // 2]["prompt"]), read(picture))
        said = f"{report(met)}\nScore: {sum(met.values())}"
        completion = [{"role": "assistant", "content": [{"type": "text", "text": said}]}]
        rows.append({"prompt": row["prompt"], "images": row["images"], "completion": completion})
    settings = dict(
        per_device_train_batch_size=16, gradient_accumulation_steps=1, num_train_epochs=_COLD_EPOCHS, learning_rate=3e-3,
        first_token_weight=0.1, seed=seed, use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no",
        report_to="none", logging_steps=10,
    )  # fmt: skip
    trainer = FirstTokenSFTTrainer(
        load_vlm("tiny_scenes_vlm", dtype="float32"),
        args=FirstTokenSFTConfig(output_dir=str(folder), **settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_processor("tiny_scenes_vlm"),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=LINEAR_LAYERS, task_type="CAUSAL_LM"),
        preset=preset,
    )
    trainer.train()
    trainer.save_model(_internal_call=True)


def gcpo(folder: Path, seed: int, given: list[str]) -> list[str]:
    cold = folder / "cold"
    cold_start(cold, seed)
    trained = folder / "gcpo"
    model = ["--model_name_or_path", str(cold), "--seed", str(seed)]
    command(trained, "judge", "train", "--config", "tiny_scenes_judge_gcpo", *model, *given)
    return [accuracy(trained, "before"), accuracy(trained, "after"), seconds(trained)]


def taught(folder: Path, seed: int, given: list[str]) -> list[str]:
    """
    The small judge learns from what the large one said, and is measured on what that says of held-out pairs. The large one has
    a rubric of its own, by which the pairs are not labelled: what stands where counts, then the shapes.
    """
    store = folder.parent / "large.sqlite"
    criteria = [Criterion(text=GENERAL["relation"][1], essential=True), Criterion(text=GENERAL["shapes"][1])]
    large = RubricJudge(Rubric(name="places", criteria=criteria), TinyScenesJudge(), store=store)
    for split in ("train", "test"):  # what was asked before is in the store
        rows = [JudgeRow(row["prompt"], (row["chosen"], row["rejected"])) for row in pairs(split)]
        large.compare(rows)
    options = ["--verdicts", str(store), "--first_token_weight", "0.9", "--seed", str(seed)]
    command(folder, "judge", "train", "--config", "tiny_scenes_judge", *options, *given)
    return [accuracy(folder, "before"), accuracy(folder, "after"), seconds(folder)]


_HEADS = {
    "sft": ["before", "after", "CPU s"],
    "nft": ["under the trained judge", "CPU s", "under the embedded judge", "CPU s"],
    "gcpo": ["after the cold start", "after GCPO", "CPU s of GCPO"],
    "taught": ["agreement before", "agreement after", "CPU s"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the commands")
    args = parser.parse_args()
    use_one_thread()
    given = [part for one in args.set for part in (f"--{one.split('=', 1)[0]}", one.split("=", 1)[1])]
    rows: dict[str, list[list[str]]] = {part: [] for part in args.parts}
    for seed in args.seeds:
        folder = args.output / f"seed-{seed}"
        for part in args.parts:
            if part == "nft":
                cells = nft(folder / "nft", folder / "sft", seed, given)
            else:
                cells = {"sft": sft, "gcpo": gcpo, "taught": taught}[part](folder / part, seed, given)
            rows[part].append([str(seed), *cells])
    for part, found in rows.items():
        lines = [["seed", *_HEADS[part]], ["---"] * (1 + len(_HEADS[part])), *found]
        print(f"\n{part}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines))


if __name__ == "__main__":
    main()
