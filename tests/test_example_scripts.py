"""The examples run as their docstrings say, in short; `tests/test_docs.py` runs the one for FLUX with a server."""

import runpy
import sys
from pathlib import Path

import pytest

from arr_trl.tiny_scenes import BASE_MODEL


ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["own_reward", "several_rewards", "margin_advantage"])
def test_script_trains_and_writes_a_release(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [
        f"{name}.py", "--config", str(ROOT / "examples/configs/tiny_scenes_rpo.yaml"), "--model_name_or_path",
        str(BASE_MODEL), "--dataset_name", str(ROOT / "examples/prompts/tiny_scenes.txt"), "--rubric",
        str(ROOT / "examples/rubrics/tiny_scenes.json"), "--output_dir", str(tmp_path), "--max_steps", "1",
        "--per_device_train_batch_size", "8", "--num_inference_steps", "4", "--adapter_subfolder", "ARR",
    ])  # fmt: skip
    runpy.run_path(str(ROOT / "examples" / "scripts" / f"{name}.py"), run_name="__main__")
    assert (tmp_path / "ARR" / "pytorch_lora_weights.safetensors").is_file()
    assert (tmp_path / "README.md").is_file()


def test_notebook_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    notebook = nbformat.read(ROOT / "examples" / "notebooks" / "tiny_scenes.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    numbers = notebook.cells[1]
    assert "STEPS, PAIRS, HELD_OUT = 100, 64, 120" in numbers.source
    numbers.source = numbers.source.replace("100, 64, 120", "1, 2, 3")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    client.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "outputs" / "notebook" / "evaluation" / "report.html").is_file()
    assert notebook.cells[-1].outputs[-1].data["image/png"]
