"""The pairs of TinyScenes and the example rubric that is written from them."""

import json

import numpy as np
import pytest

from arr_trl.cli.main import main
from arr_trl.judges import JudgeRow, RubricJudge
from arr_trl.rubrics import Rubric
from arr_trl.tiny_scenes import Caption, TinyScenesJudge, captions, check, pairs, preferences, read
from arr_trl.tiny_scenes.judge import zero_shot_rubric


def met(pair):
    return [check(Caption.parse(pair.prompt), read(image)) for image in pair.images]


def test_the_rule_decides_and_what_it_does_not_name_counts_nothing():
    rule = {"relation": 2.0, "shapes": 1.0}
    for pair in preferences(40, rule):
        scores = [sum(worth for name, worth in rule.items() if m[name]) for m in met(pair)]
        assert scores[pair.winner] > scores[1 - pair.winner]


def test_every_fault_occurs_and_winners_stand_in_both_places():
    pairs = preferences(120)
    missed = [name for pair in pairs for m in met(pair) for name, ok in m.items() if not ok]
    assert set(missed) == {"colors", "shapes", "relation", "count"}
    assert 0.35 < np.mean([pair.winner for pair in pairs]) < 0.65


def test_wrong_labels_are_told_and_the_same_seed_draws_the_same_pairs():
    pairs = preferences(200, wrong_labels=0.1, seed=3)
    wrong = [pair for pair in pairs if pair.category == "wrong label"]
    assert 8 <= len(wrong) <= 34
    for pair in wrong:
        assert sum(met(pair)[pair.winner].values()) < sum(met(pair)[1 - pair.winner].values())
    again = preferences(200, wrong_labels=0.1, seed=3)
    assert [(p.prompt, p.winner, p.images[0].tobytes()) for p in pairs] == [
        (p.prompt, p.winner, p.images[0].tobytes()) for p in again
    ]


@pytest.fixture(scope="module")
def example(pytestconfig):
    return Rubric.load(pytestconfig.rootpath / "examples" / "rubrics" / "tiny_scenes.json")


def test_the_rubric_of_the_quickstart_is_what_the_pipeline_writes(example, pytestconfig, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = pytestconfig.rootpath / "examples" / "configs" / "rubric_tiny_scenes.yaml"
    assert main(["rubric", "generate", "--config", str(config)]) == 0
    written = json.loads((tmp_path / "outputs" / "rubric" / "tiny_scenes.json").read_text())
    kept = json.loads(example.to_json())
    for rubric in (written, kept):  # these change with the package, not with what it does
        del rubric["provenance"]["arr_trl"], rubric["provenance"]["templates"]
    assert written == kept


def test_a_judge_reads_in_it_what_one_would_write_from_the_captions_alone(example):
    assert example.content_hash == zero_shot_rubric().content_hash
    rows = [JudgeRow(pair.prompt, pair.images) for pair in preferences(100, split="test")]
    made, by_hand = (RubricJudge(rubric, TinyScenesJudge()).compare(rows) for rubric in (example, zero_shot_rubric()))
    assert made == by_hand


def test_split_of_pairs_has_each_caption_alike_and_the_better_picture_first():
    rows = pairs("test[:24]")
    assert rows["prompt"] == captions("test")[:24]
    assert rows["prompt"][3:6] == pairs("test[3:6]")["prompt"]
    for row in rows:
        caption = Caption.parse(row["prompt"])
        better, worse = (sum(check(caption, read(row[name])).values()) for name in ("chosen", "rejected"))
        assert better > worse
