import json
import math
import re
import sqlite3

import numpy as np
import pytest
from datasets import Dataset
from openai_server import Answer, OpenAIServer, checks_pass
from PIL import Image

from arr_trl.chat import ChatReply
from arr_trl.cli.judge import run
from arr_trl.judges import JudgeRow, RubricJudge
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.tiny_scenes.judge import TinyScenesJudge, zero_shot_rubric
from arr_trl.tiny_scenes.scenes import Caption, captions, render


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = captions("train")
    with open("pairs.jsonl", "w") as file:
        for i in range(8):
            for j, text in enumerate((names[i], names[i + 50])):
                render(Caption.parse(text), np.random.default_rng(i)).save(f"{i}-{j}.png")
            row = {"query": names[i], "response": [f"{i}-0.png", f"{i}-1.png"], "label_rank": [1, 2]}
            file.write(json.dumps(row) + "\n")
    zero_shot_rubric().save("rubric.json")
    Rubric(name="shapes", criteria=[Criterion(text="There are exactly two objects.")]).save("weak.json")
    return tmp_path


EVAL = ["eval", "--dataset", "pairs.jsonl", "--rubric", "rubric.json", "--judge_model", "tiny_scenes"]


def test_eval_prints_a_table_and_writes_json(folder, capsys):
    assert run([*EVAL, "--output", "eval.json"]) == 0
    written = json.loads((folder / "eval.json").read_text())
    for name in (
        "accuracy_forward",
        "accuracy_reversed",
        "accuracy_consistent",
        "position_bias",
        "tie_rate",
        "invalid_rate",
    ):
        low, high = written[f"{name}_ci"]
        assert low <= written[name] <= high
    assert written["pairs"] == 8
    assert written["accuracy_consistent"] == 1
    assert "accuracy_consistent" in capsys.readouterr().out


def test_pairs_of_tiny_scenes_are_a_dataset_as_for_rubrics(folder):
    assert run(["eval", "--dataset", "tiny_scenes", "--rubric", "tiny_scenes", *EVAL[5:], "--limit", "3"]) == 0
    assert json.loads((folder / "judge_eval.json").read_text())["pairs"] == 3


def test_a_second_eval_asks_nothing(folder):
    run(EVAL)
    run(EVAL)
    written = json.loads((folder / "judge_eval.json").read_text())
    assert (written["calls"], written["stored"]) == (0, 16)


def test_compare_tests_two_rubrics_on_the_same_pairs(folder, capsys):
    assert run([*EVAL, "--compare", "--compare_rubric", "weak.json"]) == 0
    written = json.loads((folder / "judge_eval.json").read_text())
    assert written["compared"]["accuracy_consistent"] == 0
    assert written["mcnemar"] == {"only_first": 8, "only_second": 0, "p_value": pytest.approx(2 / 256)}
    assert "McNemar" in capsys.readouterr().out


def test_a_judge_is_fitted_to_pairs_and_asked_by_what_was_found(folder, capsys):
    judge = ["--rubric", "rubric.json", "--judge_model", "tiny_scenes", "--judge_mode", "choice"]
    assert run(["calibrate", "--pairs", "pairs.jsonl", *judge]) == 0
    written = json.loads((folder / "calibration.json").read_text())
    assert written["measured"]["pairs"] == written["measured"]["pairs_fitted_on"] == 4
    assert written["measured"]["calibrated"]["accuracy"] == 1
    printed = capsys.readouterr().out
    assert "kappa" in printed
    assert "--judge_calibration calibration.json" in printed
    asked = ["eval", "--dataset", "pairs.jsonl", *judge, "--judge_calibration", "calibration.json"]
    assert run(asked) == 0
    assert json.loads((folder / "judge_eval.json").read_text())["calls"] == 0  # the answers are those of before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "judge_mode=ranks has no margins that could be fitted"),
        (["--judge_mode", "choice", "--judge_calibration", "c.json"], "is what this command writes"),
        (["--judge_mode", "choice", "--rubric", "rubric.json", "weak.json"], "Several judges are fitted one by one"),
    ],
)
def test_what_cannot_be_fitted_is_told(folder, capsys, options, sentence):
    with pytest.raises(SystemExit):
        run(
            [
                "calibrate",
                "--pairs",
                "pairs.jsonl",
                "--rubric",
                "rubric.json",
                "--judge_model",
                "tiny_scenes",
                *options,
            ]
        )
    assert sentence in capsys.readouterr().err


def test_the_log_shows_and_exports_what_was_asked(folder, capsys):
    run(EVAL)
    capsys.readouterr()
    assert run(["log", "judge.sqlite", "--limit", "3"]) == 0
    shown = capsys.readouterr().out
    assert "The latest 3 of 16 questions" in shown
    assert "…" not in shown  # nothing of an answer is cut off in 80 columns
    assert run(["log", "judge.sqlite", "--output", "log.jsonl"]) == 0
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    assert rows[0]["status"] == "answered"
    assert json.loads(rows[0]["reply"])["ranks"]
    assert run(["log", "judge.sqlite", "--output", "log.parquet", "--status", "answered"]) == 0
    assert Dataset.from_parquet(str(folder / "log.parquet"))[0]["prompt"] == rows[0]["prompt"]


def test_the_log_shows_the_questions_of_a_prompt_as_they_were_asked(folder, capsys):
    run(EVAL)
    asked = folder / "0-0.png"
    prompt = captions("train")[0]
    ask = ["ask", "--rubric", "rubric.json", "--judge_model", "tiny_scenes", "--prompt", prompt, "--image", str(asked)]
    capsys.readouterr()
    assert run([*ask, str(folder / "0-1.png"), "--dry_run", "true"]) == 0
    question = capsys.readouterr().out.split(" ---\n", 1)[1].split("\n--- JSON schema")[0]
    assert run(["log", "judge.sqlite", "--prompt", prompt, "--limit", "1"]) == 0
    said = capsys.readouterr().out
    logged = said.split(" ---\n", 1)[1].split("\n--- reply")[0]
    pictures = re.compile(r"<image [^>]+>")
    assert pictures.sub("<image>", logged) == pictures.sub("<image>", question)
    assert len(pictures.findall(logged)) == 2
    assert '"ranks"' in said.split("--- reply ---\n")[1]
    assert "2 questions are about" in said


def test_the_log_shows_the_mask_where_it_was_asked_about(tmp_path, capsys):
    class Silent:
        model, settings = "silent", {}

        def complete(self, requests, on_reply=None):
            return [ChatReply(text="nothing") for _ in requests]

    images = [Image.new("RGB", (16, 16), color) for color in ("red", "blue", "gray", "white")]
    names = [str(tmp_path / f"{number}.png") for number in range(4)]
    for image, name in zip(images, names, strict=True):
        image.save(name)
    rubric = Rubric(name="r", criteria=[Criterion(text="It is red.")], task="image-editing")
    (tmp_path / "rubric.json").write_text(rubric.model_dump_json())
    judge = RubricJudge(rubric, Silent(), order="fixed", store=tmp_path / "judge.sqlite", max_failure_rate=None)
    judge.compare([JudgeRow("edit it", tuple(images[:2]), images[2], columns={"mask_image": images[3]})])
    ask = [
        "ask",
        "--rubric",
        str(tmp_path / "rubric.json"),
        "--judge_model",
        "m",
        "--base_url",
        "http://localhost:1/v1",
    ]
    ask += [
        "--prompt",
        "edit it",
        "--image",
        *names[:2],
        "--source",
        names[2],
        "--mask",
        names[3],
        "--dry_run",
        "true",
    ]
    assert run(ask) == 0
    question = capsys.readouterr().out.split(" ---\n", 1)[1].split("\n--- JSON schema")[0]
    assert run(["log", str(tmp_path / "judge.sqlite"), "--prompt", "edit it"]) == 0
    logged = capsys.readouterr().out.split(" ---\n", 1)[1].split("\n--- reply")[0]
    pictures = re.compile(r"<image [^>]+>")
    assert pictures.sub("<image>", logged) == pictures.sub("<image>", question)
    assert len(pictures.findall(logged)) == 4


def test_ask_shows_the_replies_and_who_is_better(folder, capsys):
    names = ["0-1.png", "0-0.png"]
    ask = ["ask", "--rubric", "rubric.json", "--judge_model", "tiny_scenes", "--prompt", captions("train")[0]]
    assert run([*ask, "--image", *names]) == 0
    said = capsys.readouterr().out
    assert "--- reply, shown 0-1.png 0-0.png ---" in said
    assert "--- reply, shown 0-0.png 0-1.png ---" in said
    assert said.rstrip().endswith("The best is 0-0.png.")


def test_a_dry_run_of_eval_shows_the_first_question_and_asks_nothing(folder, capsys):
    assert run([*EVAL, "--output", "new/judge_eval.json", "--dry_run", "true"]) == 0
    assert f"Caption: {captions('train')[0]}" in capsys.readouterr().out
    assert not (folder / "new").exists()
    assert not (folder / "judge.sqlite").exists()
    assert not (folder / "judge_eval.json").exists()


def test_eval_leaves_a_page_with_every_pair(folder):
    assert run([*EVAL, "--output", "found/eval.json"]) == 0
    page = (folder / "found" / "eval.html").read_text()
    assert "The judge is right in both orders on 100% (68 to 100) of 8 labelled pairs." in page
    assert "from chance" not in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert [pair["w"] for pair in data["pairs"]] == [0] * 8  # all agree with the label
    assert list(data["criteria"]) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            [
                "ask",
                "--rubric",
                "auto",
                "--judge_model",
                "tiny_scenes",
                "--prompt",
                "x",
                "--image",
                "0-0.png",
                "0-1.png",
            ],
            "one judge under one rubric",
        ),
        (["log", "none.sqlite"], "no verdict store at none.sqlite"),
        (["log", "rubric.json"], "is not a verdict store"),
        ([*EVAL, "--compare"], "needs a second judge"),
        ([*EVAL, "--limits", "3"], "There is no option `limits`; did you mean `limit`?"),
        ([*EVAL, "--dataset", "none.jsonl"], "There is no file none.jsonl"),
        ([*EVAL, "--rubric", "none.json"], "There is no rubric file"),
        ([*EVAL[:-1], "m", "--base_url", "http://127.0.0.1:9/v1"], "could not be reached"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(folder, capsys, arguments, words):
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_help_is_complete(capsys):
    for command in ("eval", "log", "tifa"):
        with pytest.raises(SystemExit):
            run([command, "--help"])
    assert "compare_rubric" in capsys.readouterr().out


def test_a_benchmark_prints_what_its_leaderboard_would(folder, capsys):
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    rows = [{"prompt": row["query"], "path1": row["response"][0], "path2": row["response"][1]} for row in rows]
    (folder / "test.json").write_text(json.dumps(rows))
    assert run([*EVAL, "--dataset", "hpdv3:test.json"]) == 0
    written = json.loads((folder / "judge_eval.json").read_text())
    assert written["official"]["HPDv3 accuracy"]["value"] == written["accuracy_mean"] == 1
    shown = capsys.readouterr().out
    assert "As the leaderboard of the set counts" in shown
    assert "HPDv3 accuracy" in shown
    assert "accuracy_consistent" in shown


def test_level_pairs_are_asked_about_on_request(folder, capsys):
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    rows[0]["label_rank"] = [1, 1]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for options, pairs in (([], 7), (["--ties", "true"], 8)):
        assert run([*EVAL, *options]) == 0
        written = json.loads((folder / "judge_eval.json").read_text())
        assert written["pairs"] == pairs
        assert ("accuracy_3way" in written) == bool(options)
    assert "accuracy_3way" in capsys.readouterr().out


def test_tifa_asks_about_pictures_and_writes_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    questions = [["How many dogs are in the image?", "two"], ["Are there any dogs in the image?", "Yes"]]
    row = {"prompt": "two dogs", "atom_count": 2, "vqa_list": questions, "skills": ["count", "object"]}
    (tmp_path / "geneval2_data.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "images.json").write_text(json.dumps({"two dogs": "dogs.png"}))
    Image.new("RGB", (64, 64), "red").save("dogs.png")

    def respond(number, body):
        if "logprobs" not in body:
            return Answer("OK")
        many = "How many" in str(body["messages"])
        return Answer("x", top_logprobs=[("2", math.log(0.25)), (" Two", math.log(0.25))] if many else [("Yes", 0.0)])

    with OpenAIServer(respond=respond) as server:
        command = ["tifa", "--dataset", "geneval2:geneval2_data.jsonl", "--images", "images.json"]
        assert run([*command, "--judge_model", "vlm", "--base_url", server.url]) == 0
    written = json.loads((tmp_path / "soft_tifa.json").read_text())
    assert written["soft_tifa_am"] == pytest.approx(0.75)
    assert written["soft_tifa_gm"] == pytest.approx(0.5**0.5)
    assert "Soft-TIFA GM" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run([*command, "--judge_model", "vlm", "--base_url", server.url, "--rubric", "rubric.json"])
    assert "`rubric` has no part in this" in capsys.readouterr().err


def test_a_compared_judge_that_is_wholly_stored_does_not_cost_the_result(folder, capsys):
    run([*EVAL, "--rubric", "weak.json"])
    capsys.readouterr()
    assert run([*EVAL, "--compare", "--compare_rubric", "weak.json"]) == 0
    written = json.loads((folder / "judge_eval.json").read_text())
    assert (written["calls"], written["compared"]["calls"]) == (16, 0)
    assert written["compared"]["latency_s"] is None
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "latency_s" in line]
    assert row.split() == ["│", "latency_s", "│", "0.00", "│", "–", "│"]


def test_the_result_is_written_before_it_is_printed(folder, monkeypatch):
    def fails(*args):
        raise RuntimeError("no screen")

    monkeypatch.setattr("arr_trl.evaluation.judge_eval.print_summary", fails)
    with pytest.raises(RuntimeError, match="no screen"):
        run(EVAL)
    assert json.loads((folder / "judge_eval.json").read_text())["pairs"] == 8


def test_a_second_judge_that_is_not_there_is_told_before_the_first_is_asked(folder, capsys):
    with pytest.raises(SystemExit):
        run([*EVAL, "--compare", "--compare_judge_model", "m", "--compare_base_url", "http://127.0.0.1:9/v1"])
    assert "could not be reached" in capsys.readouterr().err
    assert not list(folder.glob("judge_eval.json"))
    with sqlite3.connect(folder / "judge.sqlite") as store:
        assert store.execute("SELECT count(*) FROM questions").fetchone() == (0,)


def wrong(number, body):
    """Prefers the second picture, whatever it shows."""
    criteria = [{"criterion": i, "ranks": [2, 1]} for i in range(1, 5)]
    return Answer(json.dumps({"criteria": criteria, "reason": "", "ranks": [2, 1]}))


def with_sources(folder, counts):
    """Pairs of edits with so many sources each."""
    for i in range(max(counts)):
        Image.new("RGB", (32, 32), (50 * i, 200, 10)).save(f"source-{i}.png")
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    sources = [[f"source-{i}.png" for i in range(count)] or None for count in counts]
    rows = [row | {"source_image": source} for row, source in zip(rows, sources, strict=False)]
    (folder / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--rubric", "weak.json", "--dataset", "edits.jsonl"]


def at_most_three(number, body):
    shown = sum(part["type"] == "image_url" for part in body["messages"][0]["content"])
    error = b'{"error": {"message": "At most 3 image(s) may be provided"}}'
    ranks = {"criteria": [{"criterion": 1, "ranks": [1, 2]}], "reason": "", "ranks": [1, 2]}
    return Answer(status=400, body=error) if shown > 3 else Answer(json.dumps(ranks))


def test_a_server_that_takes_too_few_pictures_for_the_sources_is_found_before_it_is_paid(folder, capsys):
    with OpenAIServer(respond=at_most_three) as server, pytest.raises(SystemExit):
        run([*EVAL[:-1], "judge", "--base_url", server.url, *with_sources(folder, [2] * 4)])
    assert "At most 3 image(s)" in capsys.readouterr().err
    assert not (folder / "judge_eval.json").exists()


def test_why_some_pairs_have_no_verdict_is_told(folder, capsys):
    with OpenAIServer(respond=at_most_three) as server:
        assert run([*EVAL[:-1], "judge", "--base_url", server.url, *with_sources(folder, [1, 2, 2, 2])]) == 0
    said = capsys.readouterr().err
    assert "gave no verdict for 6 of 8 questions" in said
    assert re.search(r"Of 6 it is: .*At most 3 image", said)


def test_an_edit_without_its_source_is_left_out_and_not_the_end(folder, capsys):
    Rubric.load("weak.json").model_copy(update={"task": "image-editing"}).save("editing.json")
    arguments = [*with_sources(folder, [0, 1, 0, 1]), "--compare", "--compare_rubric", "editing.json"]
    with OpenAIServer(respond=at_most_three) as server:
        assert run([*EVAL[:-1], "judge", "--base_url", server.url, *arguments]) == 0
    written = json.loads((folder / "judge_eval.json").read_text())
    assert [(some["pairs"], some["skipped"]) for some in (written, written["compared"])] == [(2, 2)] * 2
    assert "Left out: Row 0: it has no source image, which the editing rubric" in capsys.readouterr().out


def test_two_servers_of_one_name_are_compared_and_not_one_with_itself(folder, monkeypatch):
    monkeypatch.setenv("ONE", "sk-one")
    monkeypatch.setenv("TWO", "sk-two")
    keys = ["--api_key_env", "ONE", "--compare_api_key_env", "TWO"]
    with OpenAIServer(TinyScenesJudge(), checks_pass) as good, OpenAIServer(respond=wrong) as bad:
        arguments = [*EVAL[:-1], "judge", "--base_url", good.url, "--compare", "--compare_base_url", bad.url]
        assert run([*arguments, *keys]) == 0
    written = json.loads((folder / "judge_eval.json").read_text())
    assert written["accuracy_consistent"] == 1
    assert written["compared"]["accuracy_consistent"] == 0
    assert written["compared"]["calls"] == 16
    assert {headers["authorization"] for headers in good.headers} == {"Bearer sk-one"}
    assert {headers["authorization"] for headers in bad.headers} == {"Bearer sk-two"}


def test_a_judge_that_gives_no_verdict_at_all_is_an_exit_status_and_not_for_ever(folder, capsys):
    def nonsense(number, body):
        return checks_pass(number, body) or Answer("Both are nice.")

    with OpenAIServer(TinyScenesJudge(), nonsense) as server:
        arguments = [*EVAL[:-1], "judge", "--base_url", server.url]
        assert run(arguments) == 1
        assert "gave no verdict on any pair; `arr-trl judge log judge.sqlite --status inv" in capsys.readouterr().err
        server.respond = checks_pass
        with pytest.warns(UserWarning, match="16 questions in the verdict store judge.sqlite had no usable answer"):
            assert run(arguments) == 0
    assert json.loads((folder / "judge_eval.json").read_text())["accuracy_consistent"] == 1
