"""An evaluation that is told a run's folder asks what the run was given."""

import json
from types import SimpleNamespace

import pytest
from trl import TrlParser

from arr_trl.cli.arguments import parse
from arr_trl.cli.evaluate import EvaluateArguments
from arr_trl.cli.run_file import save_run, what_next, with_run
from arr_trl.cli.train_arguments import TrainArguments


CONFIG = {
    "adapter_subfolder": "ARR-x", "eval_height": 48, "eval_width": 64, "eval_num_inference_steps": 5, "guidance_scale": 2.5,
    "max_sequence_length": 12, "condition_size": None, "negative_prompt": "", "push_to_hub": False,
}  # fmt: skip


def evaluation(*argv):
    (args,) = parse(TrlParser((EvaluateArguments,)), with_run(list(argv), {"judge": "judge_model"}))
    return args


@pytest.fixture
def run(tmp_path):
    given = TrainArguments(
        model_name_or_path="user/base", dataset_name=["prompts.jsonl"], eval_dataset_split="test", judge_model=["m", "n"],
        rubric=["rubric.json"], base_url=["http://localhost:8000/v1"], judge_mode="choice", judge_local=False,
        judge_extra_body={"top_k": 1}, judge_score_range=[1, 5], eval_funcs=["my.truth"],
    )  # fmt: skip
    save_run(given, SimpleNamespace(**CONFIG, output_dir=str(tmp_path)))
    return tmp_path


def test_evaluation_of_a_run_has_its_model_prompts_judge_and_sizes(run):
    args = evaluation("--run", str(run))
    assert (args.model, args.dataset, args.dataset_split) == ("user/base", "prompts.jsonl", "test")
    assert args.adapter == [str(run / "ARR-x")]
    assert (args.height, args.width, args.num_inference_steps, args.guidance_scale) == (48, 64, 5, 2.5)
    assert (args.judge_model, args.rubric, args.judge_mode) == (["m", "n"], ["rubric.json"], "choice")
    assert (args.judge_extra_body, args.judge_score_range, args.eval_funcs) == ({"top_k": 1}, [1, 5], ["my.truth"])
    assert args.condition_size is None


def test_what_is_given_beside_a_run_wins(run):
    args = evaluation(f"--run={run}", "--height", "96", "--judge", "other", "--adapter", "a", "b")
    assert (args.height, args.width, args.judge_model, args.adapter) == (96, 64, ["other"], ["a", "b"])


def test_folder_of_no_run_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"There is no run\.json in .*; `--run` takes the output folder of a run"):
        evaluation("--run", str(tmp_path))


@pytest.mark.parametrize("option", ["base_url", "reward_funcs"])
def test_key_in_the_address_of_a_server_is_not_written(tmp_path, option):
    given = {"judge_model": ["j"], option: ["http://host/v1?token=secret"]}
    arguments = TrainArguments(model_name_or_path="m", dataset_name=["d"], **given)
    save_run(arguments, SimpleNamespace(**CONFIG, output_dir=str(tmp_path)))
    assert "secret" not in (tmp_path / "run.json").read_text()


def test_password_of_a_server_is_not_written(tmp_path):
    given = TrainArguments(
        model_name_or_path="m", dataset_name=["d"], judge_model=["j"], base_url=["https://me:secret@host/v1"]
    )
    save_run(given, SimpleNamespace(**CONFIG, output_dir=str(tmp_path)))
    assert "secret" not in (tmp_path / "run.json").read_text()
    assert json.loads((tmp_path / "run.json").read_text())["judge_model"] == ["j"]


def test_end_of_a_run_names_commands_that_exist(tmp_path):
    told = what_next(SimpleNamespace(**CONFIG, output_dir=str(tmp_path / "my-run")))
    assert f"arr-trl evaluate --run {tmp_path / 'my-run'} --output" in told
    assert f"arr-trl push {tmp_path / 'my-run'} --repo_id YOUR_NAME/my-run --dry_run\n" in told + "\n"
    told = what_next(SimpleNamespace(**CONFIG, output_dir="my first run"))  # can be pasted into a shell
    assert "arr-trl evaluate --run 'my first run' --output 'my first run/evaluation'" in told
    assert "arr-trl push 'my first run' --repo_id YOUR_NAME/my-first-run --dry_run" in told
