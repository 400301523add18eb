import json

import pytest
from openai_server import Answer, OpenAIServer
from tiny_pairs import write_pairs

from arr_trl.cli.main import main
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.tiny_scenes import TinyScenesJudge


RULE = {"count": 2.0, "relation": 1.0}
GENERATE = ["rubric", "generate", "--dataset", "pairs.jsonl", "--judge_model", "tiny_scenes"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path, 40, RULE)
    return tmp_path


def stopped(arguments, capsys):
    """What a command that ends with status 2 said."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_three_options_are_enough_over_http(folder, capsys):
    with OpenAIServer(TinyScenesJudge()) as server:
        status = main([
            "rubric", "generate", "--dataset", "pairs.jsonl", "--base_url", server.url, "--judge_model", "m", "--output",
            "made/rubric.json", "--price_in", "1e6", "--price_out", "0",
        ])  # fmt: skip
    assert status == 0
    rubric = Rubric.load(folder / "made" / "rubric.json")
    assert rubric.provenance.dataset == "pairs.jsonl"
    assert rubric.provenance.verifier == "m"
    assert (
        rubric.provenance.holdout["with_rubric"]["accuracy"] > rubric.provenance.holdout["without_rubric"]["accuracy"]
    )
    report = json.loads((folder / "made" / "rubric.report.json").read_text())
    asked = [body for body in server.requests if body["max_tokens"] > 1]
    assert report["cost"]["requests"] == len(asked)
    assert report["cost"]["cost"] == 7 * len(asked)
    assert len(report["pairs"]) == rubric.provenance.counts["pairs"] - rubric.provenance.counts["pairs_held_out"]
    page = (folder / "made" / "rubric.html").read_text()
    assert "On pairs that were held out, with the rubric the judge names" in page
    assert page.count("Held out: nothing was written from it.") == rubric.provenance.counts["pairs_held_out"]
    assert page.count('"p":') == rubric.provenance.counts["pairs"]
    dropped = rubric.provenance.counts["pairs_dropped"]
    assert page.count('"f":"Dropped: ') <= dropped <= page.count('"Dropped: ')
    said = capsys.readouterr()
    assert "held-out accuracy with the rubric" in said.out
    assert "generate: " in said.err


def test_the_numbers_of_the_dry_run_hold_and_it_asks_nothing(folder, capsys):
    with OpenAIServer(TinyScenesJudge()) as server:
        model = ["--judge_model", "m", "--base_url", server.url]
        assert main([*GENERATE[:-2], *model, "--output", "new/rubric.json", "--dry-run"]) == 0
        assert server.requests == []
        said = capsys.readouterr().out
        assert "--- request 2 to m ---" in said
        assert "<image of 32x32 pixels>" in said
        assert '"title": "WrittenCriteria"' in said
        assert not list(folder.glob("*.sqlite"))
        assert not (folder / "new").exists()
        least, most = (int(word) for word in said.partition("In all ")[2].partition(";")[0].split(" to "))
        main([*GENERATE[:-2], *model])
        assert least <= len([body for body in server.requests if body["max_tokens"] > 1]) <= most
        capsys.readouterr()
        main([*GENERATE[:-2], *model, "--dry_run"])
    said = capsys.readouterr().out
    assert f"generate: {said.partition('; ')[2].split()[0]} questions" in said  # all of them are in the store


def test_a_rubric_that_was_edited_is_put_aside(folder, capsys):
    main(GENERATE)
    written = (folder / "rubric.json").read_text()
    (folder / "rubric.json").write_text(written.replace("exactly two", "just two"))
    main(GENERATE)
    assert (folder / "rubric.json").read_text() == written
    assert "just two" in (folder / "rubric.previous.json").read_text()


def test_bad_rows_are_told_with_their_number_and_what_is_good_is_used(folder, capsys):
    rows = (folder / "pairs.jsonl").read_text().splitlines()
    first = json.loads(rows[0])
    bad = [
        {**first, "response": [first["response"][0], "gone.png"]},
        {**first, "label_rank": [1]},
        {**first, "response": [first["response"][0]] * 2},
        {"query": "no images"},
    ]
    (folder / "pairs.jsonl").write_text("\n".join([*map(json.dumps, bad), *rows]))
    assert main([*GENERATE, "--holdout", "0"]) == 0
    said = capsys.readouterr().err
    assert "Left out: Row 0: there is no image" in said
    assert "Left out: Row 1: it has 2 images and 1 ranks." in said
    assert "Left out: Row 2: its two images are identical" in said
    assert "has 40 pairs that can be used, not the 150 of `limit`" in said
    report = json.loads((folder / "rubric.report.json").read_text())
    assert len(report["skipped"]) == 4
    assert report["counts"]["pairs"] == 40
    assert report["pairs"][0]["row"] == 4
    said = stopped([*GENERATE, "--max_bad_rows", "2"], capsys)
    assert "has more than 2 rows that cannot be used. The last: Row 2" in said


def test_a_model_that_never_answers_in_json_ends_with_status_1_and_a_sentence(folder, capsys):
    with OpenAIServer(respond=lambda number, body: Answer(text="It is nice.")) as server:
        status = main([*GENERATE[:-2], "--judge_model", "m", "--base_url", server.url])
    assert status == 1
    said = capsys.readouterr().err
    assert "questions got no answer in the stage 'generate'" in said
    assert "what was answered is kept in rubric.sqlite" in said
    assert not (folder / "rubric.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "none.jsonl"], "There is no file none.jsonl"),
        (["--dataset", "empty.jsonl"], "empty.jsonl is empty"),
        (["--dataset", "bad.jsonl"], "holds no pair that can be used. Row 0"),
        (["--limit", "1"], "limit=1 has to be at least 2"),
        (["--limit", "nothing"], "limit"),
        (["--holdout", "1"], "holdout=1.0 is a share"),
        (["--output", "pictures"], "pictures is a folder"),
        (["--judge_model", "m"], "The model m needs `base_url`"),
        (["--judge_model", "m", "--base_url", "http://127.0.0.1:9/v1"], "could not be reached"),
        (["--writer_model", "w", "--writer_base_url", "http://127.0.0.1:9/v1"], "could not be reached"),
        (["--embedding_model", "e"], "needs `embedding_base_url`"),
        (["--embedding_model", "e", "--embedding_base_url", "http://127.0.0.1:9"], "There are no embeddings of e"),
        (["--guide", "pairs.jsonl"], "has no `rationale`"),
        (["--numcriteria", "4"], "did you mean `num_criteria`?"),
    ],
)
def test_bad_input_gets_one_sentence_before_anything_is_asked(folder, capsys, arguments, words):
    (folder / "empty.jsonl").write_text("")
    (folder / "bad.jsonl").write_text('{"query": "x"}\n')
    assert words in stopped([*GENERATE, *arguments], capsys)
    assert not (folder / "rubric.json").exists()


def test_verify_tells_accuracy_with_and_without_and_what_each_criterion_said(folder, capsys):
    Rubric(
        name="r", criteria=[Criterion(text="There are exactly two objects.", weight=2), Criterion(text="The relation is right.")]
    ).save("rubric.json")  # fmt: skip
    verify = ["rubric", "verify", "--dataset", "pairs.jsonl", "--judge_model", "tiny_scenes"]
    assert main([*verify[:2], "rubric.json", *verify[2:]]) == 0  # as `show` takes it
    said = capsys.readouterr().out
    assert "with the rubric" in said
    assert "100.0%" in said
    assert "1. There are exactly two objects." in said
    assert Rubric.load("rubric.json").provenance is None  # nothing is written unless it is asked for
    assert not list(folder.glob("*.html"))
    assert main([*verify, "--report", "verified.html"]) == 0
    page = (folder / "verified.html").read_text()
    assert "With the rubric the judge names the preferred picture of 100% (91 to 100) of 40 pairs" in page
    assert page.count('"w":0') == 40
    assert main([*verify, "--update", "true"]) == 0
    found = Rubric.load("rubric.json")
    assert found.provenance.measured["with_rubric"]["pairs"] == 40
    assert found.provenance.measured["content_hash"] == found.content_hash
    assert "is none; make one with" in stopped([*verify, "--update", "true", "--rubric", "user/r"], capsys)
    assert "There is no rubric file" in stopped([*verify, "--rubric", "none.json"], capsys)


def test_zero_shot_writes_a_rubric_from_a_description(folder, capsys):
    zero_shot = ["rubric", "zero-shot", "--judge_model", "tiny_scenes"]
    assert main([*zero_shot, "--description", "Scenes of two shapes.", "--output", "described.json"]) == 0
    assert "Nothing has verified it" in capsys.readouterr().out
    assert Rubric.load("described.json").provenance.method == "description"
    assert "`description` is needed" in stopped(zero_shot, capsys)


def test_show_converts_between_all_forms_without_loss(folder, capsys):
    rubric = Rubric(
        name="r",
        criteria=[Criterion(text="Hands are whole.", theme="Anatomy", weight=2), Criterion(text="It is lit.")],
    )
    rubric.save("rubric.json")
    for old, new in (("rubric.json", "a.md"), ("a.md", "b.txt"), ("b.txt", "c.json")):
        assert main(["rubric", "show", old, "--output", new]) == 0
    assert Rubric.load("c.json").criteria == rubric.criteria
    capsys.readouterr()
    main(["rubric", "show", "rubric.json", "--form", "prompt"])
    assert capsys.readouterr().out == rubric.render() + "\n"
    assert "does not end in .json, .md, .txt" in stopped(
        ["rubric", "show", "rubric.json", "--output", "x.doc"], capsys
    )


def test_diff_shows_what_a_judge_would_read_differently(folder, capsys):
    old = Rubric(name="old", criteria=[Criterion(text="Hands are whole."), Criterion(text="It is lit.")])
    old.save("old.json")
    Rubric(name="new", criteria=old.criteria).save("same.json")
    Rubric(name="new", criteria=[Criterion(text="It is new."), Criterion(text="It is lit.", weight=2)]).save(
        "new.json"
    )
    assert main(["rubric", "diff", "old.json", "same.json"]) == 0
    assert capsys.readouterr().out == "A judge reads the same in both.\n"
    main(["rubric", "diff", "old.json", "new.json"])
    said = capsys.readouterr().out.splitlines()
    assert "-- Hands are whole." in said
    assert "+- It is new." in said
    assert "+- It is lit. (weight 2)" in said


def test_push_shows_what_it_would_send(folder, capsys):
    Rubric(name="r", criteria=[Criterion(text="x")]).save("rubric.json")
    assert main(["rubric", "push", "rubric.json", "--repo_id", "user/r", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "Would send rubric.json" in said
    assert "Nothing was sent to user/r." in said
    assert "cannot name a repository" in stopped(["rubric", "push", "rubric.json", "--repo_id", "a b"], capsys)


def test_help_of_every_command_is_complete(capsys):
    for command in ("generate", "verify", "show", "diff", "push", "zero-shot"):
        with pytest.raises(SystemExit, match="0"):
            main(["rubric", command, "--help"])
    assert "--description" in capsys.readouterr().out
