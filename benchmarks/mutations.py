"""
Which mistakes would the tests let pass? Each line of `MUTATIONS` is one, made in a copy of the tree and undone.

```
python benchmarks/mutations.py > mutations.md
python benchmarks/mutations.py --only "window|penalty"
```

The files of tests named beside a mutation run against it, to the first test that fails. What failed runs once more at the
end, on the tree as it is, since what fails anyway catches nothing. What is printed is a Markdown table; the exit status is 1
when more than one mutation survives, 2 when a test fails anyway. A time-out is no catch, and neither is a place that is not
there any more.
"""

import argparse
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest


# Imported once, before the processes that run the tests are forked: they take longer than most tests.
HEAVY = (
    "datasets", "diffusers.pipelines.flux.pipeline_flux", "diffusers.pipelines.qwenimage.pipeline_qwenimage_edit", "peft",
    "torch", "transformers.trainer", "trl.trainer.base_trainer",
)  # fmt: skip
ROOT = Path(__file__).parents[1]

# What goes wrong, the file in src/arr_trl, the text that is there once, what stands in its place, files in tests/.
# fmt: off
MUTATIONS = [
    # the first nine were alive once
    ("the same noise at every step of a candidate", "sampling/rollout.py",
     "step_noise[:, :, i]", "step_noise[:, :, 0]", "sampling/test_rollout.py"),
    ("base and trained exchanged in the evaluation", "trainer/base_comparison.py",
     "in zip(base, trained, strict=True)", "in zip(trained, base, strict=True)", "trainer/test_base_against_trained.py"),
    ("penalty in closed form without a gradient", "trainer/trajectory_trainer.py",
     "gaussian_kl(mean[some],", "gaussian_kl(mean[some].detach(),", "trainer/test_trajectory_trainer.py"),
    ("penalty as a ratio without a gradient", "trainer/trajectory_trainer.py",
     "log_prob_RK[some] - ref", "log_prob_RK[some].detach() - ref", "trainer/test_trajectory_trainer.py"),
    ("masked rows left out of the denominator", "trainer/trajectory_trainer.py",
     "loss / args.per_device_train_batch_size", "loss / active_RK.sum()", "trainer/test_trajectory_trainer.py"),
    ("judge given the first row's source for all rows", "trainer/buffer.py",
     "r.get(SOURCE_COLUMN))", "rows[0].get(SOURCE_COLUMN))", "trainer/test_editing.py"),
    ("last place of the window never drawn", "trainer/trajectory_trainer.py",
     "end - args.window_size)", "max(start, end - args.window_size - 1))", "trainer/test_trajectory_trainer.py"),
    ("evaluation drawn with the rollout's steps", "trainer/evaluation.py",
     "args.eval_num_inference_steps", "args.num_inference_steps", "trainer/test_base_against_trained.py"),
    ("stored log-probabilities passed over off-policy", "trainer/trajectory_trainer.py",
     'if args.on_policy else inputs["log_prob"]', "if True else None", "trainer/test_trajectory_trainer.py"),

    ("equals take the worst of their ranks", "objectives/advantages.py",
     "(level_PN - 1) / 2", "(level_PN - 1)", "objectives/test_rpo.py"),
    ("group with one missing reward is used", "objectives/advantages.py",
     "rewards.isnan().any(1)", "rewards.isnan().all(1)", "objectives/test_rpo.py"),
    ("clipped where the advantage would pull back", "objectives/ppo.py",
     "torch.maximum(", "torch.minimum(", "objectives/test_rpo.py"),
    ("noise of Flow-GRPO from the next level everywhere", "sampling/transitions.py",
     "torch.where(sigma == 1, sigma_next, sigma)", "sigma_next", "sampling/test_transitions.py"),
    ("noise of DanceGRPO falls with the level", "sampling/transitions.py",
     "torch.full_like(sigma, noise_level)", "noise_level * sigma", "sampling/test_transitions.py"),
    ("data of CPS weighted as before the step", "sampling/transitions.py",
     "(1 - s_next) * data", "(1 - s) * data", "sampling/test_transitions.py"),
    ("candidates conditioned on other prompts once they part", "sampling/rollout.py",
     "tensor.repeat_interleave(num_generations, 0)", "torch.cat([tensor] * num_generations)",
     "sampling/test_rollout.py"),
    ("empty places have the advantage of the first candidate", "trainer/buffer.py",
     "masked_fill(candidate < 0,", "masked_fill(candidate < -1,", "trainer/test_arithmetic.py"),
    ("rows of a rollout trained on in the order drawn", "trainer/buffer.py",
     "    generator.shuffle(active)\n", "", "trainer/test_buffer.py"),
    ("empty micro-batch trains on the first row again", "trainer/buffer.py",
     'torch.full_like(batch["advantages"], torch.nan)', 'batch["advantages"]', "trainer/test_buffer.py"),
    ("prompts of later chunks taken for those of the first", "trainer/online_trainer.py",
     'part["prompt"] += start', 'part["prompt"] += 0', "trainer/test_online_trainer.py"),
    ("every chunk drawn from the noise of the first", "trainer/online_trainer.py",
     "generators[start : start + chunk]", "generators[:chunk]", "trainer/test_online_trainer.py"),
    ("every process draws from the noise of the first", "trainer/online_trainer.py",
     "self.accelerator.process_index * len(rows)", "0 * len(rows)", "trainer/test_online_trainer.py"),
    ("rewards not weighted", "objectives/advantages.py",
     "rewards_PNF * weights_F", "rewards_PNF", "objectives/test_rpo.py trainer/test_rpo_trainer.py"),
    ("reference is the base where it should be the adapter", "trainer/flow_trainer.py",
     'REFERENCE if self.args.reference == "adapter" else None', "None", "trainer/test_continued_adapter.py"),
    ("penalty on some rows not scaled up", "trainer/trajectory_trainer.py",
     "* (len(latents) / len(kl_RK))", "* 1", "trainer/test_arithmetic.py"),
    ("forwards before a resume taken off twice", "trainer/flow_trainer.py",
     "self._train_started[1] - forwards", "self._train_started[1] + forwards", "trainer/test_flow_trainer.py"),
    ("sums of metrics begin anew on resume", "trainer/flow_trainer.py",
     'defaultdict(float, state["metric_totals"])', "defaultdict(float)", "trainer/test_flow_trainer.py"),
    ("resumed rollout begun anew", "trainer/online_trainer.py",
     "whole * self.args.steps_per_rollout + steps", "whole * self.args.steps_per_rollout",
     "trainer/test_rpo_trainer.py"),
    ("file of a checkpoint that changed is taken for whole", "runtime/checkpoints.py",
     "if _digest(folder / name) != digest:", "if False:", "runtime/test_checkpoints.py"),
    ("checkpoint 9 taken for newer than 10", "runtime/checkpoints.py",
     "sorted(_checkpoints(output_dir), reverse=True)", "sorted(_checkpoints(output_dir), key=str, reverse=True)",
     "runtime/test_checkpoints.py"),
    ("losses of other processes added up on resume", "runtime/process_state.py",
     "losses.mean(0)", "losses.sum(0)", "runtime/test_checkpoints.py"),
    ("reward that is no number kept as one", "rewards/protocol.py",
     "None if number != number else number", "number", "rewards/test_protocol.py"),
    ("criteria of all but the last function lost", "rewards/protocol.py",
     "check.update({", "check.clear() or check.update({", "rewards/test_protocol.py"),
    ("better in one order is better", "judges/aggregate.py",
     "if all(ranks[i] < ranks[j] for", "if any(ranks[i] < ranks[j] for", "judges/test_ranks.py"),
    ("weights of criteria not counted", "judges/aggregate.py",
     "criterion.weight * of_criterion", "of_criterion", "judges/test_ranks.py judges/test_aggregate.py"),
    ("both questions in the given order", "judges/rubric_judge.py",
     "[given, given[::-1]]", "[given, given]", "judges/test_rubric_judge.py"),
    ("choice read by position", "judges/choice.py",
     "(shares[positions.index(0)], shares[positions.index(1)])", "(shares[0], shares[1])",
     "judges/test_rubric_judge.py"),
    ("first of several that are level is the best", "judges/aggregate.py",
     "if ranks.count(min(ranks)) == 1 else None", "if ranks else None", "judges/test_ranks.py"),
    ("first failures of a run stop it", "judges/reward.py",
     "* self._recent.maxlen:", "* len(self._recent):", "judges/test_rubric_judge.py"),
    ("pictures of a prompt counted as independent", "evaluation/win_rate.py",
     "bootstrap_interval(outcomes, prompts)", "bootstrap_interval(outcomes)", "evaluation/test_win_rate.py"),
    ("interval as narrow as if a few prompts were many", "intervals.py",
     "np.sqrt(n / (n - 1)) * _t_quantile(n - 1)", "1.96", "test_intervals.py"),
    ("rows that fill up a process counted twice", "trainer/evaluation.py",
     "sum(place < num_rows for place in places)", "len(places)", "trainer/test_base_against_trained.py"),
    ("every batch of the evaluation drawn from the first seeds", "trainer/evaluation.py",
     "for i in places[batch]]", "for i in places[: len(rows[batch])]]", "trainer/test_base_against_trained.py"),
    ("guidance added to the conditional prediction", "policies/guidance.py",
     "return negative +", "return conditional +", "policies/test_families.py"),
    ("sigmas of FLUX.1 for a square", "policies/flux.py",
     "* (width // self.size_multiple))", "* (height // self.size_multiple))", "policies/test_families.py"),
    ("alpha of the release is its rank", "release/adapter.py",
     '"lora_alpha": config.lora_alpha', '"lora_alpha": config.r', "release/test_adapter.py"),
    ("scale of rsLoRA lost in the release", "release/adapter.py",
     '"alpha_pattern", "use_rslora",', '"alpha_pattern",', "release/test_adapter.py"),
    ("the same order in every pass", "data/repeat.py",
     "manual_seed(self.seed + number)", "manual_seed(self.seed)", "data/test_stream.py"),
    ("stream shuffled alike in every epoch", "data/stream.py",
     'f"{self.seed} {position.epoch} {position.block}"', 'f"{self.seed} {position.block}"', "data/test_stream.py"),
]
# fmt: on


def run_tests(tree: Path, tests: list[str], timeout: float) -> tuple[bool | None, str]:
    """Whether tests of a tree pass, `None` when they take too long, and the first that failed."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            os.chdir(tree)
            paths = [str(tree / "src"), str(tree / "tests")]
            sys.path[:0], os.environ["PYTHONPATH"] = paths, os.pathsep.join(paths)
            os._exit(pytest.main(["-x", "--tb=no", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)]))
        ends, status = time.monotonic() + timeout, None
        try:
            while status is None and time.monotonic() < ends:
                time.sleep(0.1)
                waited, ended = os.waitpid(child, os.WNOHANG)
                status = ended if waited else None
        finally:  # a session of its own, which Ctrl-C does not reach
            if status is None:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
        if status is None:
            return None, ""
        output.seek(0)
        said = output.read()
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+?)(?:\[| - |$)", said, re.MULTILINE)
    if status and not failed:
        raise SystemExit(f"The tests {', '.join(tests)} did not run:\n{said[-2000:]}")
    return status == 0, failed[1] if failed else ""


def outcome(tree: Path, file: str, old: str, new: str, tests: str, timeout: float) -> tuple[str | None, str]:
    """The test that catches a mutation, if one does, and a word on it."""
    path = tree / "src" / "arr_trl" / file
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        return None, f"**not there**: {file} has its text {text.count(old)} times"
    path.write_text(text.replace(old, new), encoding="utf-8")
    try:
        passed, failed = run_tests(tree, tests.split(), timeout)
    finally:
        path.write_text(text, encoding="utf-8")
    if passed is None:
        return None, "**timed out**"
    return (None, "**survived**") if passed else (failed, f"`{failed}`")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="Mutations whose description this pattern is found in.")
    parser.add_argument("--timeout", type=float, default=600, help="Seconds for the tests of one mutation.")
    args = parser.parse_args()
    mutations = [mutation for mutation in MUTATIONS if re.search(args.only, mutation[0])]

    # no `.pyc`: a mutation and its undoing may have the same size and second
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    for name in HEAVY:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "outputs"))
        print("| mutation | caught by | seconds |\n|---|---|---|")
        caught = []
        for name, *mutation in mutations:
            started = time.perf_counter()
            test, word = outcome(tree, *mutation, args.timeout)
            caught += [test] if test else []
            print(f"| {name} | {word} | {time.perf_counter() - started:.0f} |", flush=True)
        passed, failed = run_tests(tree, sorted(set(caught)), args.timeout) if caught else (True, "")
    survivors = len(mutations) - len(caught)
    print(f"\n{len(caught)} of {len(mutations)} caught", file=sys.stderr)
    if not passed:
        print(f"and nothing is, since {failed or 'a test'} does not pass on the tree as it is", file=sys.stderr)
        return 2
    return int(survivors > 1)


if __name__ == "__main__":
    sys.exit(main())
