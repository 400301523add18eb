"""`arr-trl vote` as a user runs it."""

import json
import urllib.request
from pathlib import Path

import pytest
import torch
from openai_server import OpenAIServer
from peft import LoraConfig, get_peft_model
from tiny_pairs import write_pairs

from arr_trl.cli import vote as command
from arr_trl.cli.main import main
from arr_trl.data.preferences import load_preferences
from arr_trl.release import save_adapter
from arr_trl.tiny_scenes import BASE_MODEL, TinyScenesJudge, load_pipeline
from arr_trl.votes import VotingServer


ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stopped(arguments, capsys):
    """What a command that ends with status 2 said."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def voted(arguments, monkeypatch, choices, raters=("ann",)):
    """The command, with raters who vote as soon as the page is there, and a Ctrl-C after that."""

    def go(server, rater):
        url = f"{server.url}state?rater={rater}"
        for choice in choices:
            with urllib.request.urlopen(url) as answer:
                state = json.load(answer)
            said = {
                "rater": rater,
                "pair": state["pair"]["key"],
                "choice": choice,
                "reason": "",
                "faults": {"left": [], "right": []},
            }
            body = json.dumps(said).encode()
            request = urllib.request.Request(f"{server.url}vote", body, {"content-type": "application/json"})
            urllib.request.urlopen(request).close()

    def sleep(seconds):
        for rater in raters:
            go(servers[0], rater)
        raise KeyboardInterrupt

    servers = []
    enter = VotingServer.__enter__
    with monkeypatch.context() as patch:
        patch.setattr(VotingServer, "__enter__", lambda self: servers.append(self) or enter(self))
        patch.setattr(command.time, "sleep", sleep)
        return main(["vote", *arguments])


def test_votes_on_a_file_of_pairs_are_compared_with_its_labels_and_with_a_judge(folder, monkeypatch, capsys):
    write_pairs(folder, 6)
    with open("pairs.jsonl", "a") as file:
        file.write('{"query": "no images"}\n')
    assert voted(["--pairs", "pairs.jsonl"], monkeypatch, ["left", "right", "tie", "skip"], ("ann", "bob")) == 0
    said = capsys.readouterr()
    assert "Vote at http://127.0.0.1:" in said.out
    assert "6 votes are in votes.jsonl" in said.out
    assert "Left out: Row 6" in said.err
    assert len(list(load_preferences("votes.jsonl"))) == 4
    judge = ["--judge_model", "tiny_scenes", "--rubric", str(ROOT / "examples/rubrics/tiny_scenes.json")]
    assert main(["vote", "agreement", *judge, "--output", "agreement.html"]) == 0
    said = capsys.readouterr().out
    assert "Between raters" in said
    assert "judge tiny_scenes" in said
    page = (folder / "agreement.html").read_text()
    assert "label that came with the pair" in page
    assert "judge tiny_scenes" in page
    with OpenAIServer(TinyScenesJudge()) as server:  # a preset has a model of its own
        preset = ["--judge_preset", "unifiedreward-think", "--base_url", server.url]
        assert main(["vote", "agreement", *preset, "--output", "agreement.html"]) == 0
    assert "judge CodeGoat24/UnifiedReward-Think-qwen3vl-8b" in (folder / "agreement.html").read_text()


def test_a_base_against_an_adapter_is_voted_on_without_a_dataset_of_pictures(folder, monkeypatch, capsys):
    pipeline = load_pipeline()
    model = get_peft_model(pipeline.transformer, LoraConfig(r=2, target_modules=["to_q"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    save_adapter(model, folder / "ARR", type(pipeline))
    draws = ["--model", str(BASE_MODEL), "--adapter", "ARR", "--dataset", "tiny_scenes", "--limit", "2", "--height", "32",
             "--width", "32", "--num_inference_steps", "2", "--max_sequence_length", "12"]  # fmt: skip
    assert voted([*draws, "--output", "votes/votes.jsonl"], monkeypatch, ["left", "left"]) == 0
    rows = [json.loads(line) for line in (folder / "votes/votes.jsonl").read_text().splitlines()]
    assert [row["models"] for row in rows] == [["tiny-flux", "tiny-flux with ARR"]] * 2
    assert main(["vote", "agreement", "--votes", "votes/votes.jsonl"]) == 0
    assert "preferred in" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "words"), [
    (["vote"], "Give `pairs`, or `model`, `adapter` and `dataset`"),
    (["vote", "--pairs", "a.jsonl", "--model", "m"], "one of the two"),
    (["vote", "--model", "tiny_scenes"], "`model` needs `adapter`"),
    (["vote", "--pairs", "none.jsonl"], "There is no file none.jsonl"),
    (["vote", "agreement"], "There is no file votes.jsonl"),
    (["vote", "push"], "`repo_id` is needed"),
    (["vote", "push", "--repo_id", "user/votes"], "There is no file votes.jsonl"),
    (["vote", "--pears", "x"], "did you mean `pairs`?"),
])  # fmt: skip
def test_bad_input_gets_one_sentence(capsys, arguments, words):
    assert words in stopped(arguments, capsys)
