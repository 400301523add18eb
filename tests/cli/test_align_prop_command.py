"""`arr-trl align-prop`: what rewards is told from what compares."""

import pytest

from arr_trl import AlignPropConfig
from arr_trl.cli.align_prop import AlignPropScriptArguments, load_rewards
from arr_trl.cli.main import main
from arr_trl.judges import RubricJudge
from arr_trl.tiny_scenes import soft_success


RECIPE = [
    "--model_name_or_path",
    "tiny_scenes",
    "--dataset_name",
    "tiny_scenes",
    "--use_cpu",
    "true",
    "--bf16",
    "false",
]


def test_without_a_reward_the_sentence_says_that_a_judge_is_none(tmp_path, capsys):
    judge = ["--judge_model", "tiny_scenes", "--rubric", "examples/rubrics/tiny_scenes.json"]
    with pytest.raises(SystemExit, match="2"):
        main(["align-prop", *RECIPE, *judge, "--output_dir", str(tmp_path)])
    said = capsys.readouterr().err
    assert "There is no reward: give `reward_funcs`, functions of pixels with a gradient. A judge has none" in said


def test_judge_compares_and_functions_reward(tmp_path):
    script_args = AlignPropScriptArguments(
        judge_model="tiny_scenes",
        rubric=["examples/rubrics/tiny_scenes.json"],
        reward_funcs=["arr_trl.tiny_scenes.soft_success"],
    )
    config = AlignPropConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    rewards = load_rewards(script_args, config)
    assert rewards["reward_funcs"] == [soft_success]
    (judge,) = rewards["eval_reward_funcs"]
    assert isinstance(judge, RubricJudge)
