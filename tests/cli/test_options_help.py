"""The help of a command with many options fits a few screens, and hides nothing that is its own."""

import re

import pytest

from arr_trl.cli.main import main
from arr_trl.cli.options_help import HELP_ALL


LONG = ["evaluate", "judge eval", "judge ask", "judge calibrate", "judge try", "judge references", "judge tifa", "judge traces",
        "judge train", "pairs rich", "pairs best-worst", "pairs from-run", "rubric generate", "rubric verify", "vote"]  # fmt: skip


def help_of(command: str, option: str, capsys) -> str:
    with pytest.raises(SystemExit, match="0"):
        main([*command.split(), option])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", LONG)
def test_help_is_in_groups_and_says_where_the_rest_is(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = help_of(command, "--help", capsys)
    assert len(said.splitlines()) < 100
    assert max(map(len, said.splitlines())) <= 80
    shown, options = map(int, re.search(r"\n(\d+) of (\d+) options; --help_all", said).groups())
    assert shown == len(re.findall(r"^  --", said, re.MULTILINE))
    assert "--judge_extra_body" not in said
    if command != "judge train":  # 150 of transformers
        everything = help_of(command, HELP_ALL, capsys)
        assert options == len(set(re.findall(r"^  (--(?!no_)\w+)", everything, re.MULTILINE)))


def test_an_option_that_has_to_be_given_stands_in_the_first_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    said = help_of("judge ask", "--help", capsys)
    assert said.startswith("usage: arr-trl judge ask --image ...")
    assert re.search(r"--image .*\(required\)", " ".join(said.split()))


def test_a_switch_that_is_on_is_shown_by_its_name(capsys):
    said = help_of("rubric generate", "--help", capsys)
    assert "--weights" in said
    assert "--no_weights" not in said
