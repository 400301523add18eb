"""What the options of a judge make, for every command that asks one."""

import json
from pathlib import Path

import pytest
import yaml
from openai_server import Answer, OpenAIServer
from PIL import Image
from trl import TrlParser

from arr_trl import RPOConfig, RubricJudge
from arr_trl.chat import HTTPChatModel
from arr_trl.cli.judge import JudgeEvalArguments, run
from arr_trl.cli.judge_arguments import build_judge
from arr_trl.cli.rpo import RPOScriptArguments
from arr_trl.judges import EnsembleJudge
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.tiny_scenes.judge import zero_shot_rubric


@pytest.fixture(autouse=True)
def rubrics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zero_shot_rubric().save("rubric.json")
    Rubric(name="count", criteria=[Criterion(text="There are exactly two objects.")]).save("count.json")


def judge_of(*words, arguments=JudgeEvalArguments, **settings):
    words = ["--dataset", "pairs.jsonl", *words] if arguments is JudgeEvalArguments else list(words)
    (args,) = TrlParser((arguments,)).parse_args_and_config(words)
    return build_judge(args, store=None, **settings)


def test_every_option_reaches_the_judge_and_its_model():
    judge = judge_of(
        "--judge_model", "vlm", "--base_url", "http://localhost:8000/v1", "--rubric", "rubric.json",
        "--judge_mode", "pointwise", "--judge_decide", "criteria", "--judge_score_range", "1", "5",
        "--judge_language", "zh", "--judge_max_tokens", "99", "--judge_temperature", "0.5",
        "--judge_max_concurrency", "7", "--judge_timeout_s", "3", "--judge_max_retries", "1",
        "--judge_max_image_size", "256", "--judge_extra_body", '{"max_tokens": null}', order="random", seed=3,
    )  # fmt: skip
    assert isinstance(judge, RubricJudge)
    assert (judge.mode.decide, judge.mode.score_range) == ("criteria", (1, 5))
    assert (judge.order, judge.seed, judge.language) == ("random", 3, "zh")
    assert (judge.max_tokens, judge.temperature) == (99, 0.5)
    assert isinstance(judge.model, HTTPChatModel)
    assert (judge.model.max_concurrency, judge.model.timeout_s, judge.model.max_retries) == (7, 3, 1)
    assert (judge.model.max_image_size, judge.model.extra_body) == (256, {"max_tokens": None})


def test_the_tie_margin_is_that_of_what_decides():
    tiny = ("--judge_model", "tiny_scenes", "--rubric", "rubric.json", "--judge_mode", "choice")
    assert judge_of(*tiny, "--judge_tie_margin", "0.2").mode.tie_margin == 0.2
    assert judge_of(*tiny).mode.tie_margin == 0.05
    two = ("--judge_model", "tiny_scenes", "--rubric", "rubric.json", "count.json", "--judge_rule", "mean_margin")
    assert judge_of(*two, "--judge_tie_margin", "0.2").tie_margin == 0.2


def test_scores_of_an_ensemble_are_weighed_as_asked():
    two = ("--judge_model", "tiny_scenes", "--rubric", "rubric.json", "count.json", "--judge_rule", "weighted_scores")
    judge = judge_of(*two, "--judge_weights", "2", "0.5", "--judge_normalise", "none", "--judge_tie_margin", "0.1")
    assert (judge.weights, judge.normalise, judge.tie_margin) == ([2.0, 0.5], "none", 0.1)
    with pytest.raises(ValueError, match="`judge_weights` are those of several judges"):
        judge_of("--judge_model", "tiny_scenes", "--rubric", "rubric.json", "--judge_weights", "1")


def test_several_models_or_rubrics_make_an_ensemble():
    judge = judge_of(
        "--judge_model", "a", "b", "--base_url", "http://one:1/v1", "http://two:2/v1", "--rubric", "rubric.json"
    )
    assert isinstance(judge, EnsembleJudge)
    assert [(j.model.model, j.model.base_url) for j in judge.judges] == [
        ("a", "http://one:1/v1"),
        ("b", "http://two:2/v1"),
    ]
    judge = judge_of("--judge_model", "tiny_scenes", "--rubric", "rubric.json", "count.json")
    assert [j.rubric.name for j in judge.judges] == ["tiny-scenes", "count"]
    assert judge.judges[0].model is judge.judges[1].model


def test_yaml_takes_one_value_where_several_are_allowed(tmp_path):
    settings = {"judge_model": "tiny_scenes", "rubric": "rubric.json", "judge_extra_body": {"top_k": 1}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, "output_dir": "out", "use_cpu": True}))
    script_args, _ = TrlParser((RPOScriptArguments, RPOConfig)).parse_args_and_config(["--config", "config.yaml"])
    assert script_args.judge_model == ["tiny_scenes"]
    assert script_args.judge_extra_body == {"top_k": 1}
    assert build_judge(script_args, store=None).rubric.name == "tiny-scenes"


def test_a_provider_gets_the_key_of_the_hub_and_a_server_that_of_openai(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    rubric = ("--rubric", "rubric.json", "--judge_model", "m")
    assert judge_of(*rubric, "--judge_provider", "auto").model._api_key is None
    assert judge_of(*rubric, "--base_url", "http://localhost:1/v1").model._api_key == "sk-openai"
    monkeypatch.setenv("MY_KEY", "hf_mine")
    assert judge_of(*rubric, "--judge_provider", "together", "--api_key_env", "MY_KEY").model._api_key == "hf_mine"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "A judge needs `judge_model` and `rubric`"),
        (["--judge_model", "m"], "A judge needs `judge_model` and `rubric`"),
        (["--judge_model", "m", "--rubric", "rubric.json"], "`judge_model=m` needs `base_url`"),
        (
            ["--judge_model", "m", "--rubric", "rubric.json", "--base_url", "http://a:1/v1", "--judge_local", "true"],
            "`base_url` and `judge_local` are two ways to reach `judge_model=m`",
        ),
        (
            ["--judge_model", "tiny_scenes", "--rubric", "rubric.json", "rubric.json"],
            "have the same model and rubric",
        ),
        (
            ["--judge_model", "a", "b", "c", "--rubric", "rubric.json", "count.json"],
            "rubric has 2 values for 3 judges; give one, or one for each.",
        ),
        (["--judge_score_range", "3"], "judge_score_range=[3] has to be two numbers"),
        (["--judge_extra_body", "top_k=1"], "judge_extra_body='top_k=1' is not JSON"),
        (["--judge_extra_body", "[1]"], "judge_extra_body=[1] has to be an object"),
        (
            [
                "--judge_model",
                "tiny_scenes",
                "--rubric",
                "rubric.json",
                "--judge_mode",
                "choice",
                "--judge_decide",
                "criteria",
            ],
            "mode='choice' has no answers per criterion",
        ),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(capsys, words, sentence):
    with pytest.raises(SystemExit) as stop:
        run(["eval", "--dataset", "pairs.jsonl", *words])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_key_reaches_the_server_and_nothing_else(monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    for name in ("red", "blue"):
        Image.new("RGB", (8, 8), name).save(f"{name}.png")
    pair = {"prompt": "a", "images": ["red.png", "blue.png"], "label_rank": [1, 2]}
    Path("pairs.jsonl").write_text(json.dumps(pair) + "\n")
    with OpenAIServer(respond=lambda n, b: Answer(status=401, body=b'{"error": "no sk-very-secret"}')) as server:
        with pytest.raises(SystemExit):
            run(
                [
                    "eval",
                    "--dataset",
                    "pairs.jsonl",
                    "--rubric",
                    "rubric.json",
                    "--judge_model",
                    "m",
                    "--base_url",
                    server.url,
                    "--api_key_env",
                    "MY_KEY",
                ]
            )
        assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
    shown = capsys.readouterr()
    assert "refused the credentials" in shown.err
    assert "sk-very-secret" not in shown.err + shown.out


def test_a_field_of_the_request_given_twice_is_refused():
    with pytest.raises(ValueError, match="the key 'seed' comes twice"):
        JudgeEvalArguments(dataset="pairs.jsonl", judge_extra_body='{"seed": 1, "seed": 2}')


def test_one_name_at_two_servers_is_two_judges_and_at_one_server_one():
    members = ("--judge_model", "judge", "--rubric", "rubric.json", "--base_url", "http://one:1/v1")
    two = judge_of(*members, "http://two:2/v1")
    assert len({judge.model.settings["server"] for judge in two.judges}) == 2
    with pytest.raises(ValueError, match="the same model and rubric at the same server"):
        judge_of(*members, "http://ONE:1/v1/")
