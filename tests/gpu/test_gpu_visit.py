"""benchmarks/gpu_visit.py: what a visit to a GPU may meet, and that its own parts run."""

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import full_size  # noqa: E402
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


def test_what_a_part_started_ends_with_it(tmp_path):
    starts = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(40)']).wait()"
    began = time.monotonic()
    found = gpu_visit.run(part("compiles", starts), 2, dict(os.environ))
    assert found["status"] == "ended at its budget of 2 s"
    assert time.monotonic() - began < 30  # while its output is open, one would wait for it


def test_kernels_that_are_not_there_are_a_sentence_and_no_failure(tmp_path, capsys):
    refuses = "import os; print('no flash here: leave it out'); raise SystemExit(os.EX_UNAVAILABLE)"
    found = gpu_visit.visit([part("flash", refuses)], tmp_path / "visit.json", 60, dict(os.environ))
    assert found["parts"]["flash"]["status"] == "skipped: no flash here: leave it out"
    assert gpu_visit.is_well(found["parts"]["flash"])


def test_kernels_are_tried_before_a_run_is(monkeypatch):
    assert full_size.why_not("native", "cpu") is None
    assert "is not registered" in full_size.why_not("flash_attention_7", "cpu")

    def no_kernel(*inputs):
        raise RuntimeError("No available kernel. Aborting execution.\nand more")

    monkeypatch.setattr(full_size, "dispatch_attention_fn", no_kernel)
    assert full_size.why_not("native", "cpu").endswith("No available kernel. Aborting execution.")


def test_what_was_measured_is_on_disk_before_the_next_part_begins(tmp_path):
    file = tmp_path / "visit.json"
    sees = (
        f"import json; parts = json.load(open({str(file)!r}))['parts']; assert parts['first']['figures'] == {{'pairs': 3}};"
        "assert parts['second']['status'] == 'not begun: the visit was cut short'"
    )
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


def test_the_wheels_lack_nothing_that_they_need():
    """A machine without a network cannot look for what is missing: tqdm was."""

    def plain(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    def needs(name):
        try:
            found = map(Requirement, requires(name) or [])
        except PackageNotFoundError:  # what only another platform has
            return set()
        return {plain(r.name) for r in found if r.marker is None or r.marker.evaluate({"extra": ""})}

    comment, *names = re.split(r"\n(?!#)", (BENCHMARKS / "gpu_visit_wheels.txt").read_text().strip())
    wheels = set(map(plain, names))
    expected = re.search(r"\((.*)\)", comment.replace("\n#", ""), re.DOTALL)[1].split(", ")
    there, further = {"torch"}, {*map(plain, expected), "torch"}
    while further := further - there:
        there |= further
        further = set().union(*map(needs, further))
    lacking = {name: needs(name) - wheels - there for name in [*wheels, "arr-trl"]}
    assert not {name: found for name, found in lacking.items() if found}


def test_the_visit_ends_within_its_promise():
    assert gpu_visit.TOTAL_S <= 12 * 60
    assert sum(part.budget_s for part in gpu_visit.parts(None, "")) + gpu_visit.TABLE_S <= gpu_visit.TOTAL_S


REPORT = """<testsuites><testsuite>
<testcase name="ratio[flux]"><properties><property name="ratio_deviation" value="0.0031"/></properties></testcase>
<testcase name="ratio[sd3]"><properties><property name="ratio_deviation" value="0.0007"/></properties></testcase>
<testcase name="step[sd3]"><failure message="far apart"/></testcase>
<testcase name="compiled"><skipped message="no GPU"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """The part of Qwen-Image-Edit as the rehearsal on a CPU runs it, in this process."""
    (part,) = (p for p in gpu_visit.parts([1, 1], "") if p.name == "qwen_edit_512")
    file = tmp_path_factory.mktemp("part") / "figures.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(file) if word == "JSON" else word for word in part.command[1:]])
        full_size.main()
    return json.loads(file.read_text())


def test_the_table_tells_of_every_part_whatever_became_of_it(edited):
    on_a_gpu = {**edited, "runs": [{**edited["runs"][0], "peak_memory_gb": 61.24}]}
    parts = {
        "tests": {"status": "failed with status 1", "seconds": 50.4, "figures": REPORT},
        "measured": {"status": "passed", "seconds": 44.0, "figures": on_a_gpu},
        "ended": {"status": "failed with status 1", "seconds": 44.0, "figures": edited},
        "hung": {"status": "ended at its budget of 60 s", "seconds": 60.1, "said": "..."},
        "flash": {"status": "skipped: no flash here", "seconds": 9.0},
        "cut": {"status": "not begun: the visit was cut short"},
        "quickstart": {"status": "passed", "seconds": 30.0, "figures": {"win_rate": 0.6}},
    }
    shown = gpu_visit.table({"device": "a GPU", "torch": "2.13.0", "date": "2026-11-29", "parts": parts}).splitlines()
    rows = {line.split(" | ")[0][2:]: line.strip("| ").split(" | ") for line in shown[4:]}
    assert list(rows) == list(parts)
    assert {len(cells) for cells in rows.values()} == {shown[2].count("|") - 1}
    assert rows["tests"][3].endswith(
        "50 s: 2 tests passed, 1 skipped, failed: step[sd3], ratio off 1 by 0.0031 at most in bfloat16"
    )
    assert rows["hung"][3] == "ended at its budget of 60 s, 60 s"
    assert rows["flash"][3] == "skipped: no flash here, 9 s"
    assert rows["cut"][3] == "not begun: the visit was cut short, 0 s"
    assert "failed with status 1" in rows["ended"][3]
    _, floor, predicted, measured, _, _, _, counted, peak = rows["measured"]
    assert float(floor) <= float(predicted)
    assert float(measured) == pytest.approx(1 / edited["runs"][0]["pairs_per_s"], abs=1e-3)
    assert float(counted) > 0
    assert peak == "61.2"


@pytest.mark.slow
def test_the_visit_runs_on_a_cpu_with_small_models(tmp_path):
    file = tmp_path / "visit.json"
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu_visit.py"), "--blocks", "1", "1", "--families", "sd3",
         "--json", file.name],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    parts = json.loads(file.read_text())["parts"]
    said = {name: part["said"] for name, part in parts.items() if not gpu_visit.is_well(part)}
    assert not said, said
    assert run.returncode == 0
    table = run.stdout[run.stdout.index("| part |") :]
    assert all(f"\n| {name} | " in table for name in parts)
