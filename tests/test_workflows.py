"""What runs on GitHub and in a container is what the Makefile has, with the versions that the tests run with."""

import re
from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
TORCH = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_jobs_of_a_workflow_are_targets_of_the_makefile(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow[True]  # YAML takes `on` for a switch
    assert workflow["permissions"] == {"contents": "read"}  # more only where a job asks for it
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    lines = "\n".join(step["run"] for step in steps if "run" in step)
    made = re.findall(r"\bmake ([\w-]+)", lines)
    assert made
    assert set(made) <= TARGETS
    assert set(re.findall(r"torch==([\d.]+)", lines)) == {TORCH}
    assert {"test", "test-slow", "docs", "wheel"} & set(made)
    for job in workflow["jobs"].values():
        assert set(job.get("needs", "").split()) <= workflow["jobs"].keys()
        assert not any("uses" in step and "@" not in step["uses"] for step in job["steps"])


def test_container_is_made_as_everybody_sets_it_up():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"\bmake ([\w-]+)\b(?! python3)", text)) <= TARGETS
    assert re.search(r"^FROM nvidia/cuda:\S+-runtime-", text, re.MULTILINE)
    assert ".venv" in (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
