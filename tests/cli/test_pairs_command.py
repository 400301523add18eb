"""`arr-trl pairs rich` and `arr-trl pairs best-worst` as a user runs them."""

import json
from pathlib import Path

import pytest
from datasets import load_dataset
from openai_server import Answer, OpenAIServer

from arr_trl.cli.main import main
from arr_trl.data.preferences import load_preferences
from arr_trl.judges import VerdictStore
from arr_trl.tiny_scenes import TinyScenesJudge


ROOT = Path(__file__).parents[2]
SMALL = [
    "--height", "32", "--width", "32", "--num_inference_steps", "2", "--guidance_scale", "1", "--limit", "12",
    "--output", "out", "--test_share", "0",
]  # fmt: skip
TINY = ["--judge_model", "tiny_scenes"]
EDITS = ["--model", "tiny_scenes_edit", "--dataset", "tiny_scenes_edit", "--condition_size", "32",
         "--rubric", str(ROOT / "examples/rubrics/tiny_scenes_edit.json")]  # fmt: skip
CAPTIONS = ["--model", "tiny_scenes", "--dataset", "tiny_scenes", "--max_sequence_length", "12",
            "--rubric", str(ROOT / "examples/rubrics/tiny_scenes.json")]  # fmt: skip
RICH, BEST_WORST = ["pairs", "rich", *SMALL], ["pairs", "best-worst", *SMALL]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stopped(arguments, capsys):
    """What a command that ends with status 2 said."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_rich_pairs_over_http_are_a_dataset_and_a_report_that_say_what_became_of_all(folder, capsys):
    with OpenAIServer(TinyScenesJudge()) as server:
        model = ["--judge_model", "m", "--base_url", server.url]
        assert main([*RICH, *EDITS, *model, "--min_edited_wins", "0", "--price_in", "1e6", "--price_out", "0"]) == 0
    said = capsys.readouterr()
    report = json.loads((folder / "out/report.json").read_text())
    assert report["pairs"] + sum(report["dropped"].values()) == report["looked_at"] == 12
    assert report["cost"]["cost"] == 7 * report["cost"]["requests"]
    assert "critique 1: 12 questions" in said.err
    assert f"{report['pairs']} pairs of 12; the edited picture won" in said.err
    rows = load_dataset(str(folder / "out"), split="train")
    assert len(rows) == report["pairs"] > 0
    assert set(rows["edit_model"]) == {"tiny_scenes_edit"}
    read = list(load_preferences(str(folder / "out")))
    assert [pair.winner for pair in read] == [int(ranks[0] > ranks[1]) for ranks in rows["label_rank"]]
    assert all(pair.source_image for pair in read)
    assert "Preferred by: m." in (folder / "out/README.md").read_text()


def test_best_worst_writes_pairs_with_the_noise_of_each_picture(folder, capsys):
    assert main([*BEST_WORST, *CAPTIONS, *TINY, "--judge_pairs", "all", "--num_candidates", "3"]) == 0
    rows = load_dataset(str(folder / "out"), split="train")
    report = json.loads((folder / "out/report.json").read_text())
    assert len(rows) == report["pairs"] > 0
    assert all(noise[1] == 0 for noise in rows["chosen_noise"])
    before = (folder / "out/data/train-00000.parquet").read_bytes()
    assert main([*BEST_WORST, *CAPTIONS, *TINY, "--judge_pairs", "all", "--num_candidates", "3"]) == 0
    assert json.loads((folder / "out/report.json").read_text())["cost"]["requests"] == 0
    assert (folder / "out/data/train-00000.parquet").read_bytes() == before


@pytest.mark.parametrize("command", [[*BEST_WORST, "--num_candidates", "3"], [*RICH, "--min_edited_wins", "0"]])
def test_a_published_judge_prefers_and_is_named_in_the_rows_and_paid_for(folder, command):
    preset = ["--judge_preset", "three-axis"]  # of edits, with a requirement where there is one
    assert main([*command, *EDITS[:-2], *TINY, *preset, "--limit", "6"]) == 0
    report = json.loads((folder / "out/report.json").read_text())
    rows = load_dataset(str(folder / "out"), split="train")
    assert set(rows["rubric"]) == {"three-axis 1"}
    answers = VerdictStore(folder / "out/work/answers.sqlite")
    assert report["cost"]["requests"] == len(list(answers)) > report["pairs"]


def test_a_folder_that_was_written_anew_is_read_anew(folder):
    for limit in ("4", "6"):
        assert main([*BEST_WORST, *CAPTIONS, *TINY, "--num_candidates", "2", "--limit", limit]) == 0
        made = json.loads((folder / "out/report.json").read_text())["pairs"]
        assert len(load_dataset(str(folder / "out"), split="train")) == made


def test_a_dry_run_shows_the_first_questions_in_full_and_leaves_nothing(folder, capsys):
    with OpenAIServer(TinyScenesJudge()) as server:
        model = ["--judge_model", "m", "--base_url", server.url]
        editor = ["--edit_model", "tiny_scenes_edit", "--critic_model", "c", "--instruct_model", "i"]
        assert main([*RICH, *CAPTIONS, *model, *editor, "--dry_run"]) == 0
        assert main([*BEST_WORST, *CAPTIONS, *model, "--dry_run", "--judge_pairs", "cycle"]) == 0
        assert server.requests == []
    said = capsys.readouterr().out
    assert "critique: at most 12 questions" in said
    assert "--- critique: request to c ---" in said
    assert "request to i ---" in said
    assert "<image of 32x32 pixels>" in said
    assert '"title": "Critique"' in said
    assert "compare: at most 96 questions" in said  # four pairs of four candidates, in both orders
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_model_that_never_answers_ends_with_status_1_and_what_it_said(folder, capsys):
    def respond(number, body):
        return Answer("OK") if body["max_tokens"] == 1 else Answer(status=400, text="no")

    with OpenAIServer(respond=respond) as server:
        assert main([*RICH, *EDITS, "--judge_model", "m", "--base_url", server.url]) == 1
    said = capsys.readouterr().err
    assert "questions got no answer in the stage 'critique'" in said
    assert json.loads((folder / "out/report.json").read_text())["stopped"] in said
    assert not (folder / "out/data").exists()


@pytest.mark.parametrize(("arguments", "words"), [
    (["pairs", "rich", "--judge_model", "tiny_scenes"], "`model` and `dataset` are needed"),
    ([*RICH, *CAPTIONS, *TINY], "`edit_model` is needed, since tiny_scenes does not edit pictures itself"),
    ([*RICH, *EDITS], "A judge needs `judge_model` and `rubric`"),
    ([*RICH, *EDITS, "--judge_model", "m"], "`judge_model=m` needs `base_url`"),
    ([*RICH, *EDITS, "--judge_model", "m", "n", "--base_url", "http://127.0.0.1:9/v1"], "`critic_model` is needed"),
    ([*RICH, *EDITS, "--judge_model", "m", "--base_url", "http://127.0.0.1:9/v1"], "could not be reached"),
    ([*RICH, *EDITS, *TINY, "--test_share", "1"], "test_share=1.0 is a share"),
    ([*RICH, *EDITS, *TINY, "--limit", "0"], "limit=0 has to be at least 1"),
    ([*RICH, *EDITS, *TINY, "--height", "33"], "height"),
    ([*RICH, *EDITS, *TINY, "--edit_steps", "4"], "There is no option `edit_steps`"),
    ([*BEST_WORST, *CAPTIONS[:-1], EDITS[-1], *TINY], "is for image editing, and the rows have no `source_image`"),
    ([*BEST_WORST, *CAPTIONS[:-2], *TINY, "--judge_preset", "reference-yes"], "has no column 'reference_image'"),
    ([*BEST_WORST, *CAPTIONS, *TINY, "--judge_preset", "image-expectation"], "leave out `rubric`"),
    ([*BEST_WORST, *CAPTIONS, *TINY, "--num_candidates", "1"], "num_candidates=1 makes no pair"),
    ([*BEST_WORST, *CAPTIONS, *TINY, "--judge_pairs", "some"], "pairs='some' is not"),
    ([*BEST_WORST, *CAPTIONS, *TINY, "--adapter", "none"], "There is no adapter at none"),
])  # fmt: skip
def test_bad_input_gets_one_sentence(capsys, arguments, words):
    assert words in stopped(arguments, capsys)


def test_help_of_every_command_is_complete(capsys):
    for command in ("rich", "best-worst", "from-run"):
        with pytest.raises(SystemExit, match="0"):
            main(["pairs", command, "--help"])
    assert "--edit_model" not in capsys.readouterr().out.split("pairs best-worst")[1]
