"""Limits and outputs that could not be, told before anything is asked or drawn."""

import pytest

from arr_trl.cli.main import main


EVALUATE = ["evaluate", "--model", "tiny_scenes", "--dataset", "tiny_scenes"]
GENERATE = ["rubric", "generate", "--dataset", "tiny_scenes", "--judge_model", "tiny_scenes"]
JUDGE = ["judge", "eval", "--dataset", "pairs.jsonl", "--judge_model", "tiny_scenes", "--rubric", "r.json"]


@pytest.mark.parametrize(("command", "sentence"), [
    ([*EVALUATE, "--output", "out", "--limit", "0"], "limit=0 has to be at least 1."),
    ([*EVALUATE, "--output", "file"], "The folder file cannot be written to (File exists); choose another `output`."),
    ([*JUDGE, "--output", "out.json", "--limit", "-1"], "limit=-1 has to be at least 1."),
    ([*JUDGE, "--output", "folder"], "output=folder is a folder; name a file in it."),
    ([*GENERATE, "--output", "folder"], "output=folder is a folder; name a file in it."),
    ([*GENERATE, "--output", "file/rubric.json"], "The folder file cannot be written to (File exists)"),
    (["judge", "log", "store.sqlite", "--limit", "0"], "limit=0 has to be at least 1."),
])  # fmt: skip
def test_it_is_one_sentence(command, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(command)
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
