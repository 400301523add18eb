"""`arr-trl quickstart --judge`, as it ships but shorter: a judge that learns, and a generator under it."""

import json

import pytest
import yaml

from arr_trl import shipped
from arr_trl.cli import quickstart


@pytest.mark.slow
def test_a_judge_learns_from_pairs_and_a_generator_under_it_from_an_empty_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shorter = yaml.safe_load(shipped.find("configs", "tiny_scenes_judge").read_text()) | {
        "max_steps": 90,
        "eval_limit": 80,
    }
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(shorter))
    monkeypatch.setitem(quickstart._BEFORE, "judge", ("judge", ["train", "--config", "judge.yaml"]))
    few = ["--max_steps", "6", "--eval_dataset_split", "test[:6]", "--eval_num_inference_steps", "2"]
    assert quickstart.run(["--judge", *few]) == 0
    found = json.loads((tmp_path / "outputs" / "tiny-judge" / "judge_eval.json").read_text())
    assert found["before"]["accuracy_mean"] < 0.65
    assert found["after"]["accuracy_mean"] > 0.8
    compared = json.loads((tmp_path / "outputs" / "quickstart-judge" / "results.json").read_text())
    assert compared["prompts"] == 6
    assert compared["win_rate"] is not None
    assert "all criteria" in capsys.readouterr().out
