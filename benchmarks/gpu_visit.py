"""
Every figure that wants a GPU, in one visit of under twelve minutes.

```
python benchmarks/gpu_visit.py --json visit.json                   # where arr_trl is installed
python benchmarks/gpu_visit.py --json visit.json --wheels wheels   # a bare machine that has torch with CUDA: docs/source/gpu_visit.md
python benchmarks/gpu_visit.py --table visit.json                  # floor, predicted, measured; on any machine, afterwards
```

Parts run one after the other, each in a process of its own that ends at its budget. The file is written after each, so
that a visit which is cut short loses one part at most; a part that fails is told, and the next goes on. It ends in the
table. With `--blocks 1 1` models have one narrow block of each kind: that runs on a CPU in minutes and measures nothing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree


ROOT = Path(__file__).resolve().parents[1]
TOTAL_S = 715
TABLE_S = 45
DAY_S = 86_400  # a CPU has time
FULL_SIZE = [sys.executable, str(ROOT / "benchmarks/full_size.py")]
SMALL = [
    "--narrow",
    "--size",
    "64",
    "--text_tokens",
    "8",
    "--pairs",
    "2",
    "--steps",
    "1",
    "--batch",
    "2",
    "--kl_fraction",
    "1",
]


@dataclass(frozen=True)
class Part:
    """
    A command and the seconds that it may take. The word `JSON` in it stands for the file of its figures, `FOLDER` for an
    output folder with a `results.json`.
    """

    name: str
    budget_s: int
    command: list[str]


def full_size(name: str, budget_s: int, settings: str, blocks: list[int] | None) -> Part:
    """One run of full_size.py at full size, or with few blocks and small pictures."""
    small = [*SMALL, "--blocks", *map(str, blocks)] if blocks else []
    return Part(name, budget_s, [*FULL_SIZE, *settings.split(), *small, "--json", "JSON"])


def parts(blocks: list[int] | None, families: str) -> list[Part]:
    """
    In the order of what is missed most, each with its budget, which small models on a CPU do not have. `families` chooses
    among the tests; all where it is empty.
    """
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "gpu",
        "--junitxml",
        "JSON",
        "tests/gpu",
    ]
    some = ["-k", families] if families else []
    trained = [sys.executable, "-m", "arr_trl.cli.main", "nft", "--config", "examples/configs/tiny_scenes_nft.yaml"]
    few = ["--max_steps", "2"] if blocks else ["--use_cpu", "false"]
    chosen = [
        Part("tests", 80, tests + some),
        full_size("flux_512", 65, "--no_checkpointing", blocks),
        full_size("qwen_edit_512", 85, "--model qwen-edit", blocks),
        full_size("flux_512_compiled", 105, "--no_checkpointing --variant compiled", blocks),
        full_size("flux_512_checkpointing", 45, "--steps 1", blocks),
        full_size("flux_512_flash", 45, "--no_checkpointing --attn_backend _native_flash --steps 1", blocks),
        full_size("flux_24gb", 60, "--base_precision fp8 --offload_blocks --rollout_batch 4 --steps 1", blocks),
        full_size("flux_48gb", 45, "--rollout_batch 4 --steps 1", blocks),
        full_size("flux_1024", 70, "--size 1024 --rollout_batch 4 --batch 2 --steps 1", blocks),
        Part("quickstart", 70, [*trained, *few, "--output_dir", "FOLDER"]),
    ]  # fmt: skip
    return [replace(part, budget_s=DAY_S) for part in chosen] if blocks else chosen


def install(wheels: Path, target: Path) -> None:
    """What the machine lacks, from files alone, beside what it has."""
    files = sorted(map(str, wheels.glob("*.whl")))
    if not files:
        raise SystemExit(f"There is no wheel in {wheels}; docs/source/gpu_visit.md says which to download.")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-compile", "--upgrade", "--target", str(target), *files], check=True)


def status_of(returncode: int, said: str) -> str:
    if returncode == os.EX_UNAVAILABLE:
        return f"skipped: {said.strip().splitlines()[-1]}"
    return "passed" if returncode == 0 else f"failed with status {returncode}"


def is_well(part: dict) -> bool:
    return part["status"] == "passed" or part["status"].startswith("skipped")


def run(part: Part, budget_s: float, environment: dict[str, str]) -> dict:
    """What became of a part: its seconds, its figures where it wrote some, and the end of what it said."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures"
        command = [{"JSON": str(figures), "FOLDER": folder}.get(word, word) for word in part.command]
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=budget_s)
            status = status_of(process.returncode, said)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what it started too, which would keep memory and its output open
            said, _ = process.communicate()
            status = f"ended at its budget of {budget_s:.0f} s"
        except BaseException:  # a visit that is interrupted leaves nothing behind
            os.killpg(process.pid, signal.SIGKILL)
            raise
        found = {"status": status, "seconds": time.monotonic() - began, "said": said[-8000:]}
        results = Path(folder) / "results.json"
        for file in (figures, results):
            if file.is_file():
                text = file.read_text()
                found["figures"] = text if text.startswith("<") else json.loads(text)
    return found


def machine() -> dict[str, str]:
    """Asked of a process of its own, so that this one never holds memory of the GPU."""
    ask = (
        "import json, platform, torch; cuda = torch.cuda.is_available(); print(json.dumps({'torch': torch.__version__,"
        " 'device': torch.cuda.get_device_name() if cuda else 'CPU', 'python': platform.python_version()}))"
    )
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def visit(chosen: list[Part], file: Path, total_s: float, environment: dict[str, str], **about: str) -> dict:
    """Run parts while there is time; `file` is written after each, with what is to be said `about` the machine."""
    parts = {part.name: {"status": "not begun: the visit was cut short"} for part in chosen}
    found = {"date": datetime.now(timezone.utc).date().isoformat(), **about, "parts": parts}
    ends = time.monotonic() + total_s
    for part in chosen:
        left = ends - time.monotonic()
        if left < 5:
            parts[part.name] = {"status": "not begun: the time of the visit was over"}
        else:
            parts[part.name] = run(part, min(part.budget_s, left), environment)
        of_part = parts[part.name]
        print(f"{part.name}: {of_part['status']}, {of_part.get('seconds', 0):.0f} s", flush=True)
        if not is_well(of_part):
            print(of_part.get("said", "")[-1500:], flush=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(found, indent=2) + "\n")
        partial.replace(file)
    return found


def floor_and_prediction(figures: dict, measured: dict, counted: dict) -> tuple[float, float]:
    """
    Seconds for a pair: of the arithmetic alone at the rate of a large matrix product, and of every operation with what
    it reads and writes, by estimate.py with the rates that were measured. Copies of offloaded weights are in neither.
    """
    settings = figures["settings"]
    sampling = counted["sampling, our layers"]
    training = counted["training, our layers" + ", checkpointing" * (not settings["no_checkpointing"])]
    passes = measured["passes"]
    forwards, trained = (passes["sampling"] + passes["reference"]) / 4, passes["training"] / settings["batch"]
    pairs = settings["pairs"] * settings["steps"]
    floor = (forwards * sampling.flops + trained * training.flops) / (figures["tflops_matmul"] * 1e12)
    return floor / pairs, (forwards * sampling.seconds + trained * training.seconds) / pairs


def counted_passes(figures: dict, known: dict[str, dict]) -> dict:
    """What estimate.py counts of a part's passes, once for all parts that have the same."""
    import estimate

    settings = figures["settings"]
    args = argparse.Namespace(
        **{name: settings[name] for name in ("model", "size", "text_tokens", "blocks", "narrow")}, rank=16, rows=4,
        training_rows=settings["batch"], tflops=figures["tflops_matmul"], bandwidth=figures["bandwidth_tb_s"],
    )  # fmt: skip
    # a few percent between the rates that parts measured would be another count for each
    key = json.dumps({**vars(args), "tflops": 0, "bandwidth": 0})
    if key not in known:
        known[key] = estimate.of_trained_network(args)
    return known[key]


def counted_peak_gb(figures: dict, variant: str) -> float:
    """The most memory that `arr-trl doctor` counts for such a run."""
    import full_size
    from peft import LoraConfig

    from arr_trl.trainer.fit import memory_of

    settings = argparse.Namespace(**figures["settings"])
    of_family = {"condition_size": settings.size} if settings.model == "qwen-edit" else {}
    with tempfile.TemporaryDirectory() as folder:
        full_size.save_configurations(full_size.build_policy(settings, "meta").pipeline, Path(folder))
        config = full_size.configuration(settings, variant, folder, "cpu", bf16=True, **of_family)
        return memory_of(folder, config, LoraConfig(r=16, lora_alpha=32), settings.pairs).peak / 1e9


def tests_in_words(report: str) -> str:
    """What the tests found, of the XML that pytest wrote."""
    cases = list(ElementTree.fromstring(report).iter("testcase"))
    wrong = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    drifts = [
        float(found.get("value"))
        for case in cases
        for found in case.iter("property")
        if found.get("name") == "ratio_deviation"
    ]
    words = [f"{len(cases) - len(wrong) - skipped} tests passed"]
    words += [f"{skipped} skipped"] if skipped else []
    words += [f"failed: {', '.join(wrong)}"] if wrong else []
    words += [f"ratio off 1 by {max(drifts):.2g} at most in bfloat16"] if drifts else []
    return ", ".join(words)


def row(name: str, *cells: str) -> str:
    return f"| {' | '.join([name, *cells, *['–'] * (8 - len(cells))])} |"


def rows_of(name: str, part: dict, known: dict[str, dict]) -> list[str]:
    """A line of the table for each run of a part; one with what became of it, where it measured no pairs."""
    figures, became = part.get("figures"), f"{part['status']}, {part.get('seconds', 0):.0f} s"
    if isinstance(figures, str):
        return [row(name, "–", "–", f"{became}: {tests_in_words(figures)}")]
    if figures is None or "runs" not in figures:
        return [row(name, "–", "–", became)]
    lines = []
    for measured in figures["runs"]:
        floor, predicted = floor_and_prediction(figures, measured, counted_passes(figures, known))
        peak = "–" if measured["peak_memory_gb"] is None else f"{measured['peak_memory_gb']:.1f}"
        seconds = f"{1 / measured['pairs_per_s']:.3f}" + ("" if part["status"] == "passed" else f", {became}")
        lines.append(
            row(
                name, f"{floor:.3f}", f"{predicted:.3f}", seconds, f"{measured['pairs_per_s']:.2f}",
                f"{measured['mfu_sampling']:.0%}", f"{measured['mfu_training']:.0%}",
                f"{counted_peak_gb(figures, measured['variant']):.1f}", peak,
            )
        )  # fmt: skip
    return lines


def table(found: dict) -> str:
    """
    For each run at full size its seconds for a pair: the least that its arithmetic takes at the rate of a large matrix
    product there, what estimate.py counts with that rate and the memory's, and what was measured; and its peak of memory,
    as `arr-trl doctor` counts it and as it was measured. Of other parts, and of those that ended early, what became of them.
    """
    lines = [
        f"{found['device']}, torch {found['torch']}, {found['date']}",
        "",
        "| part | s a pair: floor | predicted | measured | pairs/s | MFU sampling | MFU training | GB: counted | measured |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    known: dict[str, dict] = {}
    for name, part in found["parts"].items():
        lines += rows_of(name, part, known)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("visit.json"), help="file that is written after each part")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to use beside what is installed")
    parser.add_argument("--only", nargs="+", help="names of parts; all by default")
    parser.add_argument("--total_s", type=float, help=f"seconds after which no part goes on; {TOTAL_S} at full size")
    parser.add_argument("--blocks", type=int, nargs=2, help="double and single blocks of small models, for a CPU")
    parser.add_argument("--families", default="", help="pattern for the tests of `tests`")
    parser.add_argument("--table", type=Path, metavar="JSON", help="only show what a visit measured")
    args = parser.parse_args()
    if args.table is not None:
        print(table(json.loads(args.table.read_text())))
        return 0
    chosen = parts(args.blocks, args.families)
    if unknown := set(args.only or ()) - {part.name for part in chosen}:
        parser.error(f"There is no part {', '.join(sorted(unknown))}; there are {', '.join(p.name for p in chosen)}.")
    chosen = [part for part in chosen if not args.only or part.name in args.only]
    paths = [str(ROOT / "src")]
    with tempfile.TemporaryDirectory() as target:
        if args.wheels is not None:
            install(args.wheels, Path(target))
            paths.append(target)
        before = os.environ.get("PYTHONPATH", "")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [*paths, before])),
            "HF_HUB_OFFLINE": "1",
        }
        total_s = args.total_s or (DAY_S if args.blocks else TOTAL_S)
        found = visit(chosen, args.json, total_s - TABLE_S, environment, **machine())
        counting = Part(
            "table", DAY_S if args.blocks else TABLE_S, [sys.executable, __file__, "--table", str(args.json.resolve())]
        )
        shown = run(counting, counting.budget_s, environment)
    print(shown["said"])
    if not is_well(shown):
        print(
            f"The table {shown['status']}; python benchmarks/gpu_visit.py --table {args.json} shows it on any machine."
        )
    return 0 if is_well(shown) and all(map(is_well, found["parts"].values())) else 1


if __name__ == "__main__":
    raise SystemExit(main())
