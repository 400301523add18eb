"""Published judges on the command line."""

import json

import numpy as np
import pytest
import yaml
from openai_server import OpenAIServer
from PIL import Image
from test_judge_arguments import judge_of
from trl import TrlParser

from arr_trl import RPOConfig, TournamentJudge
from arr_trl.cli.judge import run
from arr_trl.cli.rpo import RPOScriptArguments
from arr_trl.cli.train_arguments import build_training_judge
from arr_trl.judges import EnsembleJudge, PresetJudge, load_preset, preset_names
from arr_trl.tiny_scenes import TinyScenesJudge, edit_prompts
from arr_trl.tiny_scenes.judge import zero_shot_rubric
from arr_trl.tiny_scenes.scenes import Caption, captions, render


ASKED = "a red circle left of a blue square"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zero_shot_rubric().save("rubric.json")
    names = [ASKED, captions("train")[3]]
    with open("pairs.jsonl", "w") as file:
        for i in range(2):
            for j in range(2):
                render(Caption.parse(names[(i + j) % 2]), np.random.default_rng(i)).save(f"{i}-{j}.png")
            row = {"prompt": names[i], "images": [f"{i}-0.png", f"{i}-1.png"], "label_rank": [1, 2]}
            file.write(json.dumps(row) + "\n")
    return tmp_path


def test_a_preset_needs_no_more_than_its_name_and_a_server(folder):
    judge = judge_of("--judge_preset", "paco-edit", "--base_url", "http://localhost:8000/v1", order="fixed")
    assert isinstance(judge, PresetJudge)
    assert judge.model.model == "X-GenGroup/PaCo-Reward-7B"
    assert judge.order == "fixed"
    assert judge.preset.temperature == 0
    judge = judge_of(
        "--judge_preset", "editscore", "--judge_model", "mine", "--base_url", "http://localhost:8000/v1",
        "--judge_tie_margin", ".1", "--judge_temperature", "0",
    )  # fmt: skip
    assert (judge.model.model, judge.tie_margin, judge.preset.temperature) == ("mine", 0.1, 0)
    assert judge_of("--judge_preset", "editscore", "--base_url", "http://a:1/v1").preset.temperature == 0.7


def test_several_presets_make_an_ensemble(folder):
    two = ("--judge_preset", "unifiedreward-think", "unifiedreward-2-pair", "--base_url", "http://a:1/v1")
    judge = judge_of(*two)
    assert isinstance(judge, EnsembleJudge)
    assert [j.model.model.split("/")[1] for j in judge.judges] == [
        "UnifiedReward-Think-qwen3vl-8b", "UnifiedReward-2.0-qwen3vl-8b",
    ]  # fmt: skip


def test_training_takes_a_preset_from_yaml_and_by_twos(folder):
    settings = {"judge_preset": "image-expectation", "judge_model": "tiny_scenes", "judge_pairs": "all"}
    (folder / "c.yaml").write_text(yaml.safe_dump({**settings, "output_dir": "out", "use_cpu": True, "seed": 5}))
    script_args, args = TrlParser((RPOScriptArguments, RPOConfig)).parse_args_and_config(["--config", "c.yaml"])
    judge = build_training_judge(script_args, args)
    assert isinstance(judge, TournamentJudge)
    assert judge.judge.seed == 5
    assert judge.judge.store.path == folder.joinpath("out", "judge.sqlite").relative_to(folder)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--judge_preset", "paco-edit", "--rubric", "rubric.json"], "leave out `rubric`, `judge_mode`"),
        (["--judge_preset", "paco-edit", "--judge_mode", "choice"], "leave out `rubric`, `judge_mode`"),
        (["--judge_preset", "three-axis"], "The preset three-axis has no weights of its own; say with `judge_model`"),
        (["--judge_preset", "paco"], "There is no preset paco; did you mean paco-"),
        (["--judge_preset", "paco-edit"], "`judge_model=X-GenGroup/PaCo-Reward-7B` needs `base_url`"),
        (
            ["--judge_preset", "mj-pair", "mj-pair", "--judge_model", "tiny_scenes"],
            "have the same model and preset at the same server",
        ),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(folder, capsys, words, sentence):
    with pytest.raises(SystemExit) as stop:
        run(["eval", "--dataset", "pairs.jsonl", *words])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_the_list_has_every_preset_and_how_to_serve_it(capsys, monkeypatch):
    for columns in ("80", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        assert run(["list"]) == 0
        out = capsys.readouterr().out
        for name in (*preset_names(), "arr_trl.rewards.AestheticScore"):  # in one piece, to be typed again
            assert name in out
    assert "vllm serve X-GenGroup/PaCo-Reward-7B" in out
    assert run(["list", "--task", "image-editing"]) == 0
    out = capsys.readouterr().out
    assert "paco-edit" in out
    assert "unifiedreward-think" not in out


def test_what_is_shown_is_all_that_is_asked_and_can_be_written_changed_and_used(folder, capsys):
    assert run(["show", "edit-rrm"]) == 0
    out = capsys.readouterr().out
    preset = load_preset("edit-rrm")
    for ask in (preset.before, *preset.asks):
        assert ask.template.strip() in out
    assert run(["show", "edit-rrm", "--output", "mine"]) == 0
    assert load_preset("mine") == preset
    (folder / "mine" / "score.jinja2").write_text(preset.asks[0].template + "\nLook twice.")
    assert load_preset("mine/preset.json").asks[0].template.endswith("Look twice.")
    with pytest.raises(SystemExit):
        run(["show", "edit-rm"])
    assert "did you mean edit-rrm?" in capsys.readouterr().err


def test_a_preset_is_tried_on_pictures(folder, capsys):
    words = ["--image", "0-1.png", "0-0.png", "--prompt", ASKED, "--judge_model", "tiny_scenes"]
    assert run(["try", "unifiedreward-2-point", *words]) == 0
    out = capsys.readouterr().out
    assert "0-0.png: reward 1.0000 (Alignment 5, Coherence 5, Style 5)" in out
    assert "The best is 0-0.png." in out
    assert run(["try", "unifiedreward-think", *words]) == 0
    assert "The best is 0-0.png." in capsys.readouterr().out
    assert run(["try", "q-insight", *words]) == 1
    assert "no reward" in (said := capsys.readouterr().out)
    assert "No verdict: The reply has no JSON object" in said


def test_columns_source_and_reference_reach_the_question(folder, capsys):
    row = edit_prompts("test[:1]")[0]
    row["source_image"].save("source.png")
    Image.new("RGB", (32, 32), "white").save("blank.png")
    options = ["--prompt", row["prompt"], "--judge_model", "tiny_scenes", "--image", "source.png"]
    assert (
        run(["try", "edit-expectation", *options, "--source", "source.png", "--columns", '{"requirement": "x"}']) == 0
    )
    assert run(["try", "reference-yes", *options, "--prompt", ASKED, "--reference", "blank.png"]) == 0
    for words, sentence in (
        (["edit-expectation", *options], "Row 0 has no `source_image`"),
        (["reference-yes", *options], "Row 0 has no column 'reference_image'"),
        (["edit-expectation", *options, "--columns", "[1]"], "`columns` has to be a JSON object"),
    ):
        with pytest.raises(SystemExit):
            run(["try", *words])
        assert sentence in capsys.readouterr().err


def test_a_preset_is_measured_beside_a_rubric_on_labelled_pairs(folder, capsys):
    judge = ["--judge_model", "tiny_scenes", "--judge_preset", "unifiedreward-2-point"]
    assert run(["eval", "--dataset", "pairs.jsonl", *judge, "--compare", "--compare_rubric", "rubric.json"]) == 0
    written = json.loads((folder / "judge_eval.json").read_text())
    assert (written["accuracy_mean"], written["compared"]["accuracy_mean"]) == (1, 1)
    with pytest.raises(SystemExit):  # edits without their sources are left out, and these are all
        run(["eval", "--dataset", "pairs.jsonl", "--judge_model", "tiny_scenes", "--judge_preset", "three-axis"])
    assert "Row 0: it has no source image, which the editing preset three-axis needs." in capsys.readouterr().err


@pytest.mark.parametrize("command", [["eval", "--dataset"], ["calibrate", "--pairs"]])
def test_a_preset_that_needs_more_than_pairs_have_is_refused_before_it_is_asked(folder, capsys, command):
    nobody = ["--judge_model", "m", "--base_url", "http://127.0.0.1:9/v1", "--judge_preset", "reference-yes"]
    with pytest.raises(SystemExit, match="2"):
        run([*command, "pairs.jsonl", *nobody])
    assert "reference-yes needs a column 'reference_image', which labelled pairs do not" in capsys.readouterr().err


def test_check_asks_what_the_preset_asks(folder):
    with OpenAIServer(TinyScenesJudge()) as server:
        judge = PresetJudge("editscore", "vlm", server.url)
        judge.check()
        shown = [[p["type"] for p in b["messages"][-1]["content"]] for b in server.requests[1:]]
        assert shown == [["image_url", "image_url", "text"], ["image_url", "text"]]
        assert server.requests[1]["top_p"] == 0.9
        with pytest.raises(ValueError, match="the preset image-expectation cannot be used"):
            PresetJudge("image-expectation", "vlm", server.url).check()  # no log-probabilities there
