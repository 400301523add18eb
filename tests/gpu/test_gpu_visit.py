"""benchmarks/gpu_visit.py: what a visit to a GPU may meet, and that its own parts run."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu_visit  # noqa: E402


PYTHON = [sys.executable, "-c"]
WRITES = "import sys; open(sys.argv[1], 'w').write('{\"pairs\": 3}')"


def part(name, code, budget_s=60, *words):
    return gpu_visit.Part(name, budget_s, [*PYTHON, code, *words])


def test_a_part_that_fails_or_hangs_costs_no_other(tmp_path, capsys):
    parts = [
        part("measures", WRITES, 60, "JSON"),
        part("fails", "print('no kernel for this'); raise SystemExit(3)"),
        part("hangs", "import time; print('warm', flush=True); time.sleep(600)", 2),
        part("last", WRITES, 60, "JSON"),
    ]
    found = gpu_visit.visit(parts, tmp_path / "visit.json", 60, dict(os.environ))
    assert json.loads((tmp_path / "visit.json").read_text()) == found
    of = found["parts"]
    assert of["measures"]["status"] == of["last"]["status"] == "passed"
    assert of["measures"]["figures"] == of["last"]["figures"] == {"pairs": 3}
    assert of["fails"]["status"] == "failed with status 3"
    assert "no kernel for this" in of["fails"]["said"]
    assert of["hangs"]["status"] == "ended at its budget of 2 s"
    assert "warm" in of["hangs"]["said"]
    assert "no kernel for this" in capsys.readouterr().out


def test_what_was_measured_is_on_disk_before_the_next_part_begins(tmp_path):
    file = tmp_path / "visit.json"
    sees = f"import json; assert json.load(open({str(file)!r}))['parts']['first']['figures'] == {{'pairs': 3}}"
    found = gpu_visit.visit([part("first", WRITES, 60, "JSON"), part("second", sees)], file, 60, dict(os.environ))
    assert found["parts"]["second"]["status"] == "passed", found["parts"]["second"]["said"]


def test_no_part_begins_when_the_time_is_over(tmp_path):
    found = gpu_visit.visit([part("late", "print(1)")], tmp_path / "visit.json", 0, dict(os.environ))
    assert "not begun" in found["parts"]["late"]["status"]


def test_wheels_are_used_before_what_the_machine_has(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "carried-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried.py", "version = 'from the wheel'\n")
        wheel.writestr("carried-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carried\nVersion: 1.0\n")
        wheel.writestr("carried-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carried-1.0.dist-info/RECORD", "carried.py,,\n")
    gpu_visit.install(wheels, tmp_path / "target")
    answer = subprocess.run(
        [*PYTHON, "import carried; print(carried.version)"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "target")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stdout == "from the wheel\n"


def test_a_folder_without_wheels_says_where_they_come_from(tmp_path):
    with pytest.raises(SystemExit, match=r"docs/source/gpu_visit\.md"):
        gpu_visit.install(tmp_path, tmp_path / "target")


def test_the_visit_ends_within_its_promise():
    assert gpu_visit.TOTAL_S <= 12 * 60
    assert sum(part.budget_s for part in gpu_visit.parts(None, "")) <= gpu_visit.TOTAL_S


@pytest.mark.slow
def test_the_visit_runs_on_a_cpu_with_small_models(tmp_path):
    file = tmp_path / "visit.json"
    status = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu_visit.py"), "--blocks", "1", "1", "--families", "sd3",
         "--json", str(file)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    ).returncode  # fmt: skip
    parts = json.loads(file.read_text())["parts"]
    said = {name: part["said"] for name, part in parts.items() if part["status"] != "passed"}
    assert not said, said
    assert status == 0
    assert all(
        run["pairs_per_s"] > 0 for name in ("flux_512", "qwen_edit_512") for run in parts[name]["figures"]["runs"]
    )
