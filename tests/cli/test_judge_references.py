"""`arr-trl judge references` as a user runs it, and training with the preset that needs what it draws."""

import json

import pytest
from datasets import load_dataset

from arr_trl.cli.main import main


DRAWN = ["--height", "32", "--width", "32", "--num_inference_steps", "2", "--guidance_scale", "1", "--max_sequence_length",
         "12"]  # fmt: skip


def test_prompts_get_references_that_training_and_its_evaluation_compare_with(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    references = ["judge", "references", "--model", "tiny_scenes", "--dataset", "tiny_scenes", "--output", "prompts"]
    assert main([*references, *DRAWN, "--limit", "4"]) == 0
    assert "Wrote 4 prompts with a `reference_image` of each to prompts." in capsys.readouterr().out
    rows = load_dataset("prompts", split="train")
    assert {image.size for image in rows["reference_image"]} == {(32, 32)}
    run = ["rpo", "--model_name_or_path", "tiny_scenes", "--dataset_name", "prompts", "--eval_dataset_split", "train[:2]",
           "--judge_preset", "reference-yes", "--judge_model", "tiny_scenes", *DRAWN, "--eval_num_inference_steps", "2",
           "--num_generations", "2", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "1",
           "--sde_window_size", "1", "--max_steps", "1", "--output_dir", "out", "--log_completions", "true",
           "--logging_steps", "1", "--canary_every", "1", "--canary_pairs", "1", "--report_to", "none"]  # fmt: skip
    assert main(run) == 0
    kept = json.loads((tmp_path / "out/canary/canary.json").read_text())
    assert kept["rows"][0]["references"] == ["0-reference-0.png"]
    (table,) = (tmp_path / "out/completions").glob("*.parquet")
    assert set(load_dataset("parquet", data_files=str(table), split="train")["rubric"]) == {"reference-yes 1"}


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "`model` and `dataset` are needed"),
    (["--model", "tiny_scenes", "--dataset", "tiny_scenes", "--limit", "0"], "limit=0 has to be at least 1"),
    (["--model", "tiny_scenes", "--dataset", "tiny_scenes", "--height", "33"], "height"),
])  # fmt: skip
def test_bad_input_gets_one_sentence(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["judge", "references", *arguments])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
