"""What `arr-trl dpo` reads, and what it refuses that is for prompts."""

import pytest
from tiny_pairs import write_pairs

from arr_trl import DiffusionDPOConfig
from arr_trl.cli.dpo import DPOScriptArguments, load_judges, load_preference_datasets
from arr_trl.cli.main import main


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data_files", "a.parquet"], "`data_files` is for prompts"),
        (["--dataset_weights", "1", "2"], "`dataset_weights` is for prompts"),
        (["--source_column", "before"], "`source_column` is for prompts"),
        (["--prompt_column", "text"], "`prompt_column` is for prompts"),
    ],
)
def test_options_that_are_for_prompts_are_refused(tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        main(["dpo", "--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", str(tmp_path), *flags])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("streaming", [False, True])
def test_several_sets_make_one_and_no_judge_is_needed(tmp_path, streaming):
    names = [f"{name}.jsonl" for name in ("a", "b")]
    for count, name in enumerate(names, start=2):
        write_pairs(tmp_path, count, name=name)
    script_args = DPOScriptArguments(
        dataset_name=[str(tmp_path / name) for name in names],
        eval_dataset_name=str(tmp_path / "a.jsonl"),
        eval_dataset_split="train",
        dataset_streaming=streaming,
    )
    args = DiffusionDPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    assert load_judges(script_args, args) == {"reward_funcs": [], "eval_funcs": [], "watch_funcs": []}
    found = load_preference_datasets(script_args, args)
    assert [row["row"] for row in found["train_dataset"]] == [0, 1, 0, 1, 2]
    assert len(found["eval_dataset"]) == 2


def test_edits_of_tiny_scenes_are_prompts_to_evaluate_on(tmp_path):
    write_pairs(tmp_path, 2, name="a.jsonl")
    given = {"dataset_name": [str(tmp_path / "a.jsonl")], "eval_dataset_name": "tiny_scenes_edit"}
    script_args = DPOScriptArguments(**given, eval_dataset_split="test[:2]")
    found = load_preference_datasets(script_args, DiffusionDPOConfig(output_dir="out", use_cpu=True, bf16=False))
    assert found["eval_dataset"].column_names == ["prompt", "source_image"]
    assert len(found["eval_dataset"]) == 2
