"""From pairs to a rubric: hidden rules are recovered, wrong labels dropped, and what goes wrong is told."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from arr_trl.autorubric import AutoRubric, AutoRubricConfig, AutoRubricError, Writer, describe_rubric, pipeline
from arr_trl.autorubric.holdout import agreement, split, winners_of, with_rubric, without_rubric
from arr_trl.autorubric.pipeline import task_of
from arr_trl.autorubric.report import Report
from arr_trl.chat import ChatFailure, ChatReply
from arr_trl.data.preferences import Preference
from arr_trl.judges import JudgeStats, RubricJudge, Verdict, VerdictStore
from arr_trl.rubrics import Criterion, Rubric
from arr_trl.tiny_scenes import TinyScenesJudge, preferences


def write(pairs, model=None, store=None, guide=(), **settings):
    model = model or TinyScenesJudge()
    judge = RubricJudge("auto", model, store=store)
    return AutoRubric(model, judge, AutoRubricConfig(**settings)).write(pairs, name="r", guide=guide)


def accuracies(report, rule):
    others = preferences(200, rule, split="test", seed=7)
    judge = RubricJudge("auto", TinyScenesJudge())
    found = [winners_of(with_rubric(others, report.rubric, judge)[0]), without_rubric(others, judge)[0]]
    return [agreement(winners, others).accuracy for winners in found]


@pytest.mark.parametrize(
    ("rule", "subjects"),
    [
        ({"relation": 2.0, "shapes": 1.0}, ["shape", "relation"]),
        ({"shapes": 2.0, "relation": 1.0}, ["shape", "relation"]),
        ({"count": 2.0, "relation": 1.0}, ["relation", "exactly two"]),
    ],
)
def test_a_hidden_rule_is_recovered(rule, subjects):
    report = write(preferences(100, rule), holdout=0)
    weights = {s: c.weight for c in report.rubric.criteria for s in subjects if s in c.text}
    assert len(report.rubric.criteria) == len(weights) == 2  # what the rule ignores is dropped
    first = {"relation": "relation", "shapes": "shape", "count": "exactly two"}[next(iter(rule))]
    assert max(weights, key=weights.get) == first
    with_, without = accuracies(report, rule)
    assert with_ >= 0.95
    assert without < with_ - 0.05


def test_most_wrong_labels_are_dropped_and_the_finished_rubric_doubts_the_others():
    rule = {"relation": 2.0, "colors": 1.0}
    pairs = preferences(150, rule, wrong_labels=0.1)
    report = write(pairs, holdout=0)
    wrong = [o for o in report.outcomes if pairs[o.row].category == "wrong label"]
    right = [o for o in report.outcomes if pairs[o.row].category is None]
    assert len(wrong) >= 10
    assert np.mean([not o.passed for o in wrong]) > 0.5
    assert np.mean([not o.passed for o in right]) < 0.05
    assert all(o.doubtful for o in wrong)
    assert accuracies(report, rule)[0] >= 0.95


def test_counts_add_up_and_the_held_out_pairs_are_measured():
    report = write(preferences(60, {"count": 2.0, "relation": 1.0}, wrong_labels=0.1))
    counts = report.rubric.provenance.counts
    passed = counts["pairs_passed_at_once"] + counts["pairs_passed_after_refinement"]
    assert passed + counts["pairs_dropped"] + counts["pairs_held_out"] == counts["pairs"] == 60
    assert sum(report.rubric.provenance.dropped.values()) == counts["pairs_dropped"] > 0
    assert counts["pairs_passed_after_refinement"] > 0
    assert counts["criteria"] == len(report.rubric.criteria)
    found = report.rubric.provenance.holdout
    assert found["with_rubric"]["pairs"] == counts["pairs_held_out"]
    assert found["with_rubric"]["accuracy"] > found["without_rubric"]["accuracy"]
    low, high = found["with_rubric"]["interval"]
    assert low < found["with_rubric"]["accuracy"] <= high


def test_no_prompt_is_on_both_sides_and_the_seed_decides():
    pairs = preferences(80)
    train, held_out = split(pairs, 0.33, seed=0)
    assert len(train) + len(held_out) == 80
    assert not {p.prompt for p in train} & {p.prompt for p in held_out}
    assert [p.row for p in split(pairs, 0.33, seed=0)[1]] == [p.row for p in held_out]
    assert [p.row for p in split(pairs, 0.33, seed=1)[1]] != [p.row for p in held_out]
    turned = [dataclasses.replace(p, winner=1 - p.winner) for p in pairs]
    assert [p.row for p in split(turned, 0.33, seed=0)[1]] == [p.row for p in held_out]
    one_prompt = [dataclasses.replace(p, prompt="x") for p in pairs]
    assert len(split(one_prompt, 0.25, seed=0)[1]) == 20
    assert split(pairs, 0, seed=0) == (pairs, [])


def test_a_second_run_writes_the_same_rubric_and_asks_nothing(tmp_path):
    pairs = preferences(30)
    first = write(pairs, store=tmp_path / "rubric.sqlite")

    class Silent(TinyScenesJudge):
        def complete(self, requests, on_reply=None):
            raise AssertionError("asked again")

    assert write(pairs, Silent(), tmp_path / "rubric.sqlite").rubric.to_json() == first.rubric.to_json()


def test_criteria_that_never_pass_are_rewritten_so_many_times_and_then_dropped():
    class Restless(TinyScenesJudge):
        """Writes something else every time, and never anything that tells the pictures apart."""

        rewritten = 0

        def complete(self, requests, on_reply=None):
            replies = super().complete(requests)
            for i, request in enumerate(requests):
                if "observations" in request.json_schema["properties"]:
                    text = f"The mood is number {self.rewritten}."
                    self.rewritten += 1
                    replies[i] = ChatReply(text=json.dumps({"observations": "", "criteria": [text]}))
            return replies

    model = Restless()
    with pytest.raises(AutoRubricError, match=r"No criterion of 4 pairs.*4: not verified in 3 rounds"):
        write(preferences(4), model, holdout=0, max_rounds=3)
    assert model.rewritten == 4 * (1 + 3)


class Failing(TinyScenesJudge):
    """Fails on some questions, by the title of what is asked for and the number of the question."""

    def __init__(self, title, which=lambda number: True, reply=None):
        super().__init__()
        self.title = title
        self.which = which
        self.reply = reply or ChatReply(text="I would rather not use JSON.")
        self.number = 0

    def complete(self, requests, on_reply=None):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        if request.json_schema["title"] == self.title:
            self.number += 1
            if self.which(self.number):
                return self.reply
        return super().complete([request])[0]


def test_a_model_that_never_answers_in_json_is_told_in_a_sentence():
    with pytest.raises(
        AutoRubricError, match=r"6 of 6 questions got no answer in the stage 'generate'.*not the JSON object"
    ):
        write(preferences(6), TinyScenesJudge(failure_rate=1.0), holdout=0)


def test_a_verifier_that_never_answers_is_told_too():
    with pytest.raises(AutoRubricError, match="in the stage 'verify'"):
        write(preferences(6), Failing("Verdict"), holdout=0)


def test_pairs_without_an_answer_are_dropped_and_the_others_kept():
    # the first two are asked again each, and fail again
    report = write(
        preferences(40), Failing("WrittenCriteria", lambda number: number % 5 == 0 or number > 40), holdout=0
    )
    assert report.rubric.provenance.dropped == {"no criteria": 8}
    assert report.rubric.provenance.counts["pairs_passed_at_once"] == 32
    assert any("not the JSON object" in (o.problem or "") for o in report.outcomes)


def test_a_server_that_is_gone_stops_the_run_and_what_was_answered_is_kept(tmp_path):
    store = tmp_path / "rubric.sqlite"
    gone = ChatReply(failure=ChatFailure("connection", "The server is gone."))
    with pytest.raises(AutoRubricError, match=r"in the stage 'verify'.*The server is gone.*kept in .*rubric\.sqlite"):
        write(preferences(10), Failing("Verdict", reply=gone), store, holdout=0)
    model = Failing("WrittenCriteria")  # it would fail if it were asked for criteria again
    report = write(preferences(10), model, store, holdout=0)
    assert model.number == 0
    assert report.rubric.provenance.counts["pairs_passed_at_once"] == 10


def test_without_an_answer_to_the_grouping_the_criteria_are_kept_as_they_are():
    report = write(preferences(60), Failing("Themes"), holdout=0, max_themes=2, max_tips=3, weights=False)
    assert len(report.rubric.criteria) == 6
    assert {c.theme for c in report.rubric.criteria} == {""}
    assert "are not grouped" in " ".join(report.notes)


def test_of_many_criteria_the_most_diverse_are_grouped():
    report = write(preferences(60), holdout=0, max_candidates=20)
    counts = report.rubric.provenance.counts
    assert counts["criteria_selected"] == 20 < counts["criteria_verified"]
    assert counts["criteria_structured"] == 4


def test_a_rubric_that_does_not_help_is_seen():
    # labels drawn at random: nothing explains them
    draws = np.random.default_rng(0)
    pairs = [dataclasses.replace(p, winner=int(draws.integers(2))) for p in preferences(90)]
    report = write(pairs)
    assert report.with_rubric.accuracy < 0.7
    assert any("not better with this rubric" in note for note in report.notes) == (
        report.with_rubric.right <= report.without_rubric.right
    )


@pytest.mark.parametrize(("gained", "words"), [(1, "1 more of 20 held-out pairs is right"), (9, None)])
def test_one_pair_of_twenty_is_said_to_be_nothing(monkeypatch, gained, words):
    pairs = preferences(20)
    wrong = [1 - pair.winner for pair in pairs]
    right = [pair.winner for pair in pairs]
    for name, count in (("with_rubric", 10 + gained), ("without_rubric", 10)):
        winners = right[:count] + wrong[count:]
        found = [Verdict(winner=w) for w in winners] if name == "with_rubric" else winners, JudgeStats()
        monkeypatch.setattr(pipeline, name, lambda *args, found=found: found)
    report = Report(Rubric(name="r", criteria=[Criterion(text="x")]), [])
    model = TinyScenesJudge()
    AutoRubric(model, RubricJudge("auto", model), AutoRubricConfig()).measure(report, pairs)
    assert (report.with_rubric.right, report.without_rubric.right) == (10 + gained, 10)
    assert any("may be chance" in note for note in report.notes) == (words is not None)
    assert words is None or words in " ".join(report.notes)


def test_few_pairs_are_told_and_too_few_refused():
    assert "pairs are few" in write(preferences(12), holdout=0).notes[0]
    with pytest.raises(ValueError, match="There are 1 labelled pairs"):
        write(preferences(1))


def gray(value):
    return Image.new("RGB", (4, 4), (value,) * 3)


class BrightEdits:
    """Writes one criterion about brightness, and finds the brighter edit better."""

    model = "bright"
    settings = {}

    def __init__(self):
        self.requests = []

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        self.requests += requests
        return [ChatReply(text=json.dumps(self.answer(request))) for request in requests]

    def answer(self, request):
        title = request.json_schema["title"]
        if title == "WrittenCriteria":
            return {"observations": "", "criteria": ["The sky is bright.", "The house is kept."]}
        if title == "Themes":
            return {"themes": [{"theme": "Edit", "tips": ["The sky is bright."]}]}
        images = [p["image"] for p in request.messages[0]["content"] if p["type"] == "image"]
        assert images[0].getpixel((0, 0))[0] == 0  # the source of the edit comes first
        first, second = (image.getpixel((0, 0))[0] for image in images[1:])
        ranks = [1 + (second > first), 1 + (first > second)]
        if title == "_Ranks":
            return {"reason": "", "ranks": [1, 1]}
        count = request.json_schema["properties"]["criteria"]["minItems"]
        bright = [{"criterion": 1, "ranks": ranks}, {"criterion": 2, "ranks": [1, 1]}]
        return {"criteria": bright[:count], "reason": "", "ranks": ranks}


def test_edits_are_written_about_and_judged_against_their_source():
    pairs = [
        Preference(f"brighten {i}", (gray(50 + i), gray(150 + i))[:: 1 if i % 2 else -1], i % 2, gray(0))
        for i in range(30)
    ]
    model = BrightEdits()
    report = write(pairs, model)
    assert report.rubric.task == "image-editing"
    assert [c.text for c in report.rubric.criteria] == ["The sky is bright."]
    assert report.with_rubric.accuracy == 1
    assert report.without_rubric.ties == report.without_rubric.pairs
    texts = " ".join(p["text"] for r in model.requests for p in r.messages[0]["content"] if p["type"] == "text")
    assert texts.count("BASE image") >= 30
    assert "editing instruction" in texts


def test_pairs_of_both_tasks_do_not_make_one_rubric():
    with pytest.raises(ValueError, match="1 of 2 pairs have a source image"):
        task_of([Preference("x", (gray(1), gray(2)), 0), Preference("x", (gray(1), gray(2)), 0, gray(3))])


def test_zero_shot_criteria_are_verified_like_any_others():
    report = write(preferences(60, {"relation": 2.0, "shapes": 1.0}), holdout=0, method="zero-shot")
    assert report.rubric.provenance.method == "zero-shot"
    assert accuracies(report, {"relation": 2.0, "shapes": 1.0})[0] >= 0.95


def test_a_description_alone_makes_a_rubric_that_says_so():
    writer = Writer(TinyScenesJudge(), VerdictStore(), "en", 100, 0.0)
    rubric = describe_rubric("Scenes of two shapes.", "scenes", "text-to-image", writer, AutoRubricConfig())
    assert len(rubric.criteria) == 4
    assert rubric.provenance.method == "description"
    assert rubric.provenance.settings["description"] == "Scenes of two shapes."
    writer = Writer(TinyScenesJudge(failure_rate=1.0), VerdictStore(), "en", 100, 0.0)
    with pytest.raises(AutoRubricError, match="There is no rubric"):
        describe_rubric("Scenes.", "scenes", "text-to-image", writer, AutoRubricConfig())


def test_chinese_templates_lead_to_the_same_rule():
    model = TinyScenesJudge()
    judge = RubricJudge("auto", model, language="zh")
    config = AutoRubricConfig(language="zh", holdout=0)
    report = AutoRubric(model, judge, config).write(preferences(60, {"relation": 2.0, "shapes": 1.0}), name="r")
    assert len(report.rubric.criteria) == 2
    assert all(".zh/" in template for template in report.rubric.provenance.templates)
