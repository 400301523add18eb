"""
Which mistakes would the tests let pass? Each line of mutation_lists/ is one, made in a copy of the tree and undone.

```
python benchmarks/mutations.py > mutations.md
python benchmarks/mutations.py --only "window|penalty"
python benchmarks/mutations.py --only "^(judges|chat)/"
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
from mutation_lists import (
    commands,
    data,
    evaluation,
    judges,
    objectives,
    policies,
    preference_data,
    release,
    training,
)


# Imported once, before the processes that run the tests are forked: they take longer than most tests.
HEAVY = (
    "datasets", "diffusers.pipelines.flux.pipeline_flux", "diffusers.pipelines.qwenimage.pipeline_qwenimage_edit", "peft",
    "torch", "transformers.trainer", "trl.trainer.base_trainer",
)  # fmt: skip
ROOT = Path(__file__).parents[1]

# What goes wrong, the file in src/arr_trl, the text that is there once, what stands in its place, files in tests/ or, where
# these are long, tests in them.
MUTATIONS = [
    *commands.MUTATIONS, *data.MUTATIONS, *evaluation.MUTATIONS, *judges.MUTATIONS, *objectives.MUTATIONS,
    *policies.MUTATIONS, *preference_data.MUTATIONS, *release.MUTATIONS, *training.MUTATIONS,
]  # fmt: skip


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
    parser.add_argument("--only", default="", help="Mutations in whose file and description this pattern is found.")
    parser.add_argument("--timeout", type=float, default=600, help="Seconds for the tests of one mutation.")
    args = parser.parse_args()
    mutations = [mutation for mutation in MUTATIONS if re.search(args.only, f"{mutation[1]} {mutation[0]}")]

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
