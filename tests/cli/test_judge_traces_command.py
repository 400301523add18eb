"""`arr-trl judge traces`: from pictures to traces that a judge is trained on, over a server, and again without one question."""

import json

import pytest
from openai_server import Answer, OpenAIServer
from PIL import Image

from arr_trl.cli.main import main


def respond(number, body):
    content = body["messages"][0]["content"]
    text = "".join(part.get("text", "") for part in content)
    if "Before any edit is seen" in text:
        return Answer(json.dumps([{"question": "Is it red?", "category": "Follow"}]))
    if '"gold"' in text:
        return Answer(json.dumps({"gold": [{"question": "", "reason": "", "gold": 1}]}))
    if "Check these points" in text:
        says = 1 if body["model"] == "good" else 0
        return Answer(
            f'[{{"question": "Is it red?", "score": {says}}}]\n{{"average_score": {says}}}\n<score>7</score>'
        )
    return Answer("OK")


@pytest.fixture
def command(tmp_path):
    for name in ("source", "a", "b"):
        Image.new("RGB", (32, 32), {"source": "gray", "a": "red", "b": "blue"}[name]).save(tmp_path / f"{name}.png")
    row = {"prompt": "make it red", "source_image": "source.png", "chosen": "a.png", "rejected": "b.png"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    return [
        "judge", "traces", "--dataset", str(tmp_path / "pairs.jsonl"), "--judge_preset", "edit-rrm", "--judge_model", "bad",
        "good", "--temperatures", "0.5", "--output", str(tmp_path / "traces"), "--price_in", "1", "--price_out", "2",
    ]  # fmt: skip


def test_traces_are_written_and_a_second_run_asks_for_none(command, tmp_path, capsys):
    with OpenAIServer(respond=respond) as server:
        command += ["--base_url", server.url]
        assert main(command) == 0
        asked = [r for r in server.requests if r["messages"][0]["content"][0].get("text") != "Say OK."]
        assert len(asked) == 1 + 4 + 2  # points once, two models about two pictures, two checks
        said = capsys.readouterr().out
        assert "2 traces of 2 pictures, 4 of 4 readable" in said
        assert "agree with the verifier on 100.0% of the points" in said
        before = len(server.requests)
        assert main(command) == 0
        again = [r for r in server.requests[before:] if r["messages"][0]["content"][0].get("text") != "Say OK."]
        assert not again
    from datasets import load_dataset

    rows = load_dataset(str(tmp_path / "traces"), split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["model"] for row in rows] == ["good", "good"]
    assert rows[0]["gold"] == [1]


def test_a_dry_run_says_how_much_there_is_to_do_and_leaves_nothing(command, tmp_path, capsys):
    assert main([*command, "--base_url", "http://localhost:9/v1", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "traces: at most 4 questions" in said
    assert "verify, after points such as this: request to bad" in said
    assert not (tmp_path / "traces").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--judge_preset", "image-expectation"], "has no points that a trace goes through"),
        (["--temperatures", "0", "--samples", "2"], "at 0 every sample is the same"),
    ],
)
def test_traces_that_could_not_be_made_are_refused(command, capsys, more, said):
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--base_url", "http://localhost:9/v1", *more])
    assert said in capsys.readouterr().err
