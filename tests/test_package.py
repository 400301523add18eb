"""The package as it is imported and installed."""

import subprocess
import sys

import pytest

import arr_trl


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_and_help_stay_light():
    heavy = {"torch", "transformers", "diffusers", "datasets", "trl"}
    assert not heavy & loaded_by("import arr_trl")
    help_text = "from arr_trl.cli.main import main\ntry:\n main(['--help'])\nexcept SystemExit: pass"
    assert not heavy & loaded_by(f"exec({help_text!r})")


def test_reading_what_a_judge_was_asked_needs_no_torch():
    assert "torch" not in loaded_by("import arr_trl.cli.judge; from arr_trl.judges import VerdictStore")


@pytest.mark.parametrize("name", arr_trl.__all__)
def test_every_public_name_is_there(name):
    assert getattr(arr_trl, name) is not None


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'RPOTrainr'"):
        arr_trl.RPOTrainr  # noqa: B018
