"""The examples run as their docstrings say, in short; `tests/test_docs.py` runs the one for FLUX with a server."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from peft import get_peft_model_state_dict

from arr_trl import RPOConfig, RPOTrainer, Rubric, RubricJudge
from arr_trl.tiny_scenes import BASE_MODEL, TinyScenesJudge, prompts


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


def test_rpo_in_one_file_ends_with_the_adapter_of_the_trainer(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    script = runpy.run_path(str(ROOT / "examples" / "scripts" / "rpo_from_scratch.py"))
    trainer = RPOTrainer(
        model=str(BASE_MODEL),
        reward_funcs=RubricJudge(rubric=Rubric.load("examples/rubrics/tiny_scenes.json"), model=TinyScenesJudge()),
        args=RPOConfig(
            output_dir=str(tmp_path),
            height=32,
            width=32,
            max_sequence_length=12,
            sde_type="cps",
            sde_window_size=1,
            sde_window_range=[0, 3],
            noise_level=0.8,
            center_rewards=True,
            beta=0.0,
            per_device_train_batch_size=128,
            gradient_accumulation_steps=1,
            gradient_checkpointing=False,
            learning_rate=6e-4,
            lr_scheduler_type="linear",
            max_steps=3,
            seed=0,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=prompts("train"),
    )
    trainer.train()
    _, model = script["train"](3)
    ours, trainers = get_peft_model_state_dict(model), get_peft_model_state_dict(trainer.model)
    assert ours.keys() == trainers.keys()
    for name, weight in ours.items():
        assert torch.equal(weight, trainers[name]), f"{name} differs by {(weight - trainers[name]).abs().max():.1g}"
    assert any(weight.abs().max() > 0 for name, weight in ours.items() if "lora_B" in name)  # which begins at 0


def test_rpo_in_one_file_is_short_and_uses_no_trainer():
    text = (ROOT / "examples" / "scripts" / "rpo_from_scratch.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert not re.search(r"^(?:from|import) .*(?:trainer|transformers|Trainer)", text, re.MULTILINE)


def test_notebook_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    notebook = nbformat.read(ROOT / "examples" / "notebooks" / "tiny_scenes.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    numbers = notebook.cells[1]
    assert "STEPS, PAIRS, HELD_OUT = 100, 64, 120" in numbers.source
    numbers.source = numbers.source.replace("100, 64, 120", "1, 2, 3")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    client.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "outputs" / "notebook" / "evaluation" / "report.html").is_file()
    assert notebook.cells[-1].outputs[-1].data["image/png"]
