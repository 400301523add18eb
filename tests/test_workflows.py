"""What runs on GitHub and in a container is what the Makefile has, with the versions that the tests run with."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from arr_trl.cli.command import command_of
from arr_trl.cli.main import COMMANDS


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


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / "Dockerfile"], ids=lambda path: path.stem)
def test_commands_of_workflows_and_container_exist(path):
    text = path.read_text(encoding="utf-8")
    for line in re.findall(r"(?<![\w/])(?:[\w/]*/)?arr-trl ([a-z][^\n\"]*)", text):
        command, *words = shlex.split(line)
        assert command in COMMANDS, line
        of = command_of({"quickstart": "nft", "doctor": "rpo"}.get(command, command))
        known = {f"--{action.dest}" for action in of.parser(of.light_config_class())._actions} | {"--config"}
        assert {word for word in words if word.startswith("--")} <= known, line
    for name in re.findall(r"(?:-c|cache-dependency-path:|cd|COPY) ([\w./]*\w)", text):
        if not name.startswith(("/", "'")):
            assert (ROOT / name).exists(), name


def test_a_job_of_slurm_is_a_script_that_a_shell_reads():
    pages = (ROOT / "docs" / "source" / "elsewhere.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", pages, re.DOTALL)
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "|| exit" in next(line for line in script.splitlines() if line.startswith("cd "))
