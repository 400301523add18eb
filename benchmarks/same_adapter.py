"""
Did a change move a bit of what is trained? Trains with the sources of a revision and with those here, and compares.

python benchmarks/same_adapter.py --against HEAD~1
python benchmarks/same_adapter.py --against v0.1 --modes editing resume_off_policy

Each mode takes five optimizer steps on TinyScenes, once with each of the two sources and the program in this file. The
adapter, the log of every step without durations, and the pictures of an evaluation have to have the same bytes.
In the modes that resume, the revision trains all five steps, and the sources here go on from its checkpoint of step 3.
Prints a Markdown table of SHA-256 digests, and exits with 1 if two differ. All modes take five minutes of one core.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


HERE = Path(__file__).resolve().parents[1]
STEPS, CHECKPOINT_STEP = 5, 3
ADAPTER, LOG, PICTURES = "adapter/adapter_model.safetensors", "log.json", "samples.png"

# All that a result depends on is written out, so that another default is no difference. Eight pairs for each optimizer
# step, sampled in two batches and trained on in two micro-steps; the gradient is clipped in most of them.
SETTINGS: dict[str, Any] = dict(
    height=32, width=32, max_sequence_length=12, num_inference_steps=4, guidance_scale=3.5, num_generations=2,
    share_initial_noise=True, sde_type="cps", noise_level=0.8, sde_window_size=2, sde_window_range=[0, 3],
    rollout_batch_size=4, per_device_train_batch_size=16, gradient_accumulation_steps=2, steps_per_generation=2,
    num_iterations=1, positive_reward=1.0, negative_reward=0.1, center_rewards=True, epsilon=0.2, beta=0.0,
    kl_fraction=1.0, kl_type="closed_form", learning_rate=2e-3, lr_scheduler_type="linear", optim="adamw_torch",
    weight_decay=0.01, max_grad_norm=0.003, gradient_checkpointing=False, bf16=False, use_cpu=True, seed=0,
    eval_num_inference_steps=4, eval_seed=1234, num_eval_samples=4, per_device_eval_batch_size=4, max_steps=STEPS,
    save_steps=CHECKPOINT_STEP, logging_steps=1, adapter_subfolder="adapter", report_to="none", disable_tqdm=True,
)  # fmt: skip


@dataclass(frozen=True)
class Mode:
    """What a mode sets otherwise, and what it does beside training."""

    settings: dict[str, Any] = field(default_factory=dict)
    editing: bool = False
    evaluate: bool = False
    processes: int = 1


MODES = {
    "shared_noise": Mode(),
    "separate_noise": Mode(dict(share_initial_noise=False, sde_type="dance", noise_level=0.3)),
    "pipelined_judge": Mode(dict(pipelined_judge=True)),
    # a rollout lasts for two optimizer steps; a clip of this size takes some of the transitions, the default none
    "off_policy": Mode(dict(num_iterations=2, epsilon=1e-3)),
    "kl_closed_form": Mode(dict(sde_type="flow", noise_level=0.9, beta=0.05, kl_fraction=0.5)),
    "kl_log_ratio": Mode(dict(sde_type="flow", noise_level=0.9, beta=0.05, kl_type="log_ratio")),
    "kl_cps": Mode(dict(beta=0.05)),
    "editing": Mode(dict(guidance_scale=1.0, condition_size=32, max_sequence_length=None), editing=True),
    "two_processes": Mode(dict(per_device_train_batch_size=8), processes=2),
    "evaluation": Mode(dict(eval_on_start=True), evaluate=True),
}
# The mode whose checkpoint is gone on from: after a whole rollout, inside one, and with one at the judge.
RESUMED = {"resume": "shared_noise", "resume_off_policy": "off_policy", "resume_pipelined": "pipelined_judge"}


def train(name: str, output_dir: str, checkpoint: str | None = None) -> None:
    """The training program: only public names, which both revisions have."""
    from peft import LoraConfig
    from transformers import TrainerCallback

    import arr_trl
    from arr_trl import RPOConfig, RPOTrainer, Rubric, RubricJudge, tiny_scenes

    source = Path(arr_trl.__file__).resolve().parents[1]
    if source != Path(os.environ["PYTHONPATH"]).resolve():
        sys.exit(f"arr_trl was imported from {source} rather than from {os.environ['PYTHONPATH']}.")

    class CountSteps(TrainerCallback):
        taken = 0

        def on_step_end(self, args, state, control, **kwargs):
            self.taken += 1

    mode, steps = MODES[name], CountSteps()
    prompts = tiny_scenes.edit_prompts if mode.editing else tiny_scenes.prompts
    rubric = HERE / "examples" / "rubrics" / ("tiny_scenes_edit.json" if mode.editing else "tiny_scenes.json")
    trainer = RPOTrainer(
        model=tiny_scenes.load_edit_pipeline() if mode.editing else tiny_scenes.load_pipeline(),
        reward_funcs=RubricJudge(rubric=Rubric.load(rubric), model=tiny_scenes.TinyScenesJudge()),
        args=RPOConfig(output_dir=output_dir, **(SETTINGS | mode.settings)),
        train_dataset=prompts("train"),
        eval_dataset=prompts("test[:4]") if mode.evaluate else None,
        eval_funcs=tiny_scenes.success if mode.evaluate else None,
        peft_config=LoraConfig(r=4, lora_alpha=8),
        callbacks=[steps],
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    if mode.evaluate:
        trainer.evaluate()
    if trainer.is_world_process_zero():
        history = trainer.state.log_history
        check(Path(output_dir), history, steps.taken, STEPS - CHECKPOINT_STEP if checkpoint else STEPS)
        Path(output_dir, LOG).write_text(json.dumps([without_durations(entry) for entry in history]))
    trainer.accelerator.end_training()


def check(folder: Path, history: list[dict[str, float]], taken: int, expected: int) -> None:
    """Two runs that did nothing would be alike as well."""
    from safetensors.torch import load_file

    if taken != expected:
        sys.exit(f"The run took {taken} optimizer steps instead of {expected}.")
    # LoRA's second factor begins at zero
    if not any(weight.any() for key, weight in load_file(folder / ADAPTER).items() if "lora_B" in key):
        sys.exit("The adapter is the initial one.")
    if not any(entry.get("rollout/decided_rate", 0) > 0 for entry in history):
        sys.exit("The judge decided no pair.")


def without_durations(entry: dict[str, float]) -> dict[str, float]:
    """A line of the log without seconds and rates, and without the summary, whose loss is that since resuming."""
    durations = ("_s", "runtime", "_per_second")
    return {key: entry[key] for key in sorted(entry) if not key.startswith("train_") and not key.endswith(durations)}


def run(tree: Path, name: str, folder: Path, checkpoint: Path | None = None) -> Path:
    """Train with the sources of a tree, unless that was done already; returns the folder."""
    if (folder / LOG).is_file():
        return folder
    folder.mkdir()
    command = [sys.executable]
    if MODES[name].processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={MODES[name].processes}"]
    command += [str(Path(__file__).resolve()), "--train", name, str(folder)]
    command += [] if checkpoint is None else [str(checkpoint)]
    environment = {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{result.stdout}{result.stderr}{name} failed with the sources of {tree}.")
    return folder


def runs_of(name: str, before: Path, folder: Path) -> tuple[Path, Path]:
    """Folders of what the revision trained and of what the sources here did."""
    if name in RESUMED:
        mode = RESUMED[name]
        whole = run(before, mode, folder / f"{mode}-before")
        return whole, run(HERE, mode, folder / f"{name}-here", whole / f"checkpoint-{CHECKPOINT_STEP}")
    return run(before, name, folder / f"{name}-before"), run(HERE, name, folder / f"{name}-here")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def differing(one: Path, other: Path) -> str:
    """What differs first in two logs, in words."""
    logs = (json.loads((folder / LOG).read_text()) for folder in (one, other))
    for line, (expected, found) in enumerate(zip(*logs, strict=False)):
        names = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        if names:
            return f"first in line {line} of the log: {', '.join(names)}"
    return "in no line that both logs have"


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A temporary worktree of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        git, tree = ["git", "-C", str(HERE), "worktree"], Path(folder) / "tree"
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def compare(revision: str, modes: list[str]) -> bool:
    """Print the table; returns whether everything is equal."""
    revision = subprocess.check_output(["git", "-C", str(HERE), "rev-parse", "--short", revision], text=True).strip()
    print(f"| mode | file | {revision} | here | equal | seconds |\n|---|---|---|---|---|---|")
    notes = []
    with checked_out(revision) as before, tempfile.TemporaryDirectory() as folder:
        for name in modes:
            started = time.perf_counter()
            one, other = runs_of(name, before, Path(folder))
            seconds = time.perf_counter() - started
            pairs = {file: (digest(one / file), digest(other / file)) for file in (ADAPTER, LOG, PICTURES)}
            for file, (expected, found) in pairs.items():
                if expected or found:
                    row = f"| {name} | {Path(file).name} | {expected} | {found} |"
                    print(f"{row} {'yes' if expected == found else 'NO'} | {seconds:.0f} |", flush=True)
            if any(expected != found for expected, found in pairs.values()):
                notes.append(f"{name} differs, {differing(one, other)}")
    print("\n" + ("\n".join(notes) or f"Nothing differs from {revision}."))
    return not notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*MODES, *RESUMED]
    parser.add_argument("--against", default="HEAD", metavar="REV", help="revision to compare with, HEAD by default")
    parser.add_argument("--modes", nargs="+", default=names, choices=names, metavar="MODE", help=", ".join(names))
    parser.add_argument("--train", nargs="+", help=argparse.SUPPRESS)  # what the script calls itself with
    args = parser.parse_args()
    if args.train:
        train(*args.train)
    elif not compare(args.against, args.modes):
        sys.exit(1)


if __name__ == "__main__":
    main()
