"""What a shell is answered when it asks how a line of `arr-trl` may go on."""

import os
import subprocess
import sys

import pytest


def completions(line: str, tmp_path) -> list[str]:
    environment = os.environ | {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"),
    }  # fmt: skip
    code = "from arr_trl.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True)
    return [word.strip() for word in (tmp_path / "answer").read_text().split("\n")]


def test_commands_options_and_names_are_completed(tmp_path):
    pytest.importorskip("argcomplete", reason="argcomplete is not installed; the `completion` extra brings it")
    assert {"rpo", "rubric", "release"} <= set(completions("arr-trl r", tmp_path))
    assert "--num_inference_steps" in completions("arr-trl rpo --num_", tmp_path)
    (tmp_path / "rpo_mine.yaml").touch()
    assert {"rpo_flux", "rpo_mine.yaml"} <= set(completions("arr-trl rpo --config rpo_", tmp_path))
