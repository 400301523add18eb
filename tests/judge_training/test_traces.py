"""Traces of a pool, checked by a verifier that sees none of them: the one that fits best, found again without asking."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from datasets import load_dataset
from PIL import Image

from arr_trl.chat import ChatReply, ChatUsage
from arr_trl.judge_training import Trace, TraceMaker, trace_rows, write_traces
from arr_trl.judge_training.traces import select_trace
from arr_trl.judges import JudgeRow, VerdictStore, load_preset


POINTS = [
    {"question": "Is the sky red?", "category": "Follow"},
    {"question": "Is the tree there?", "category": "Keep"},
]
SOURCE, EDITED, OTHER = (Image.new("RGB", (16, 16), color) for color in ("gray", "red", "blue"))


class Model:
    """Answers points, traces and checks as it is told; a trace says `says` of the points."""

    def __init__(self, name, says=(1, 1), score=8.0, gold=(1, 0), broken=False):
        self.model, self.settings = name, {}
        self.says, self.score, self.gold, self.broken = says, score, gold, broken
        self.asked = Counter()
        self.texts = []

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        text = "".join(part.get("text", "") for m in request.messages for part in m["content"])
        self.texts.append(text)
        if "Before any edit is seen" in text:
            self.asked["points"] += 1
            said = json.dumps(POINTS)
        elif '"gold"' in text:
            self.asked["gold"] += 1
            said = json.dumps({"gold": [{"question": "", "reason": "", "gold": g} for g in self.gold]})
        else:
            self.asked["traces"] += 1
            points = [{"question": p["question"], "score": s} for p, s in zip(POINTS, self.says, strict=False)]
            said = f"{json.dumps(points)}\n" + '{"average_score": 0.5}\n' + f"<score>{self.score}</score>"
            said = "I cannot say." if self.broken else said
        return ChatReply(text=said, usage=ChatUsage(10, 5))


def rows():
    return [JudgeRow("make the sky red", (image,), SOURCE) for image in (EDITED, OTHER)]


def maker(pool, verifier, store=None, **settings):
    return TraceMaker(
        load_preset("edit-rrm"), pool[0], pool, verifier, VerdictStore() if store is None else store, **settings
    )


def test_the_trace_that_agrees_with_the_verifier_is_chosen():
    right, wrong, verifier = Model("right", (1, 0), 3.0), Model("wrong", (1, 1), 9.0), Model("verifier")
    made = maker([wrong, right], verifier, temperatures=[0.0])
    first, second = made.make(rows())
    assert first.chosen == Trace(first.chosen.text, "right", 0.0, (1, 0), 3.0, accuracy=1.0)
    assert first.gold == second.gold == (1, 0)
    assert first.points == POINTS
    assert first.read == 2
    # points follow from prompt and source, and are asked for once; the verifier is told them and no trace
    assert wrong.asked == {"points": 1, "traces": 2}
    assert verifier.asked == {"gold": 2}
    assert all("Is the sky red?" in text and "score" not in text for text in verifier.texts)


def test_traces_alike_in_accuracy_are_told_apart_by_points_then_score_then_place():
    def trace(verdicts, score, accuracy, name="a"):
        return Trace("", name, 0.0, verdicts, score, accuracy)

    assert select_trace([trace((1, 1), 9, 0.5), trace((0, 0), 1, 1.0)]).score == 1
    assert select_trace([trace((1, 0), 9, 0.5), trace((1, 1), 1, 0.5)]).score == 1
    assert select_trace([trace((1, 0), 2, 0.5), trace((0, 1), 3, 0.5)]).score == 3
    assert select_trace([trace((1, 0), 3, 0.5, "a"), trace((0, 1), 3, 0.5, "b")]).model == "a"


@pytest.mark.parametrize(
    ("pool", "gold", "problem"),
    [
        (Model("m", broken=True), (1, 0), "no trace could be read"),
        (Model("m", says=(1,)), (1, 0), "no trace could be read"),  # a point was passed over
        (Model("m", says=(1, 2)), (1, 0), "no trace could be read"),
        (Model("m"), (1,), "not verified: `gold` has to have 2 entries"),
    ],
)
def test_what_cannot_be_read_or_checked_is_left_out_with_its_reason(pool, gold, problem):
    verifier = Model("verifier", gold=gold)
    (outcome,) = maker([pool], verifier, temperatures=[0.0]).make(rows()[:1])
    assert outcome.chosen is None
    assert outcome.problem.startswith(problem)


def test_a_run_that_was_stopped_asks_nothing_twice(tmp_path):
    store = tmp_path / "answers.sqlite"
    settings = dict(temperatures=[0.5, 1.0], samples=2)
    models = Model("m"), Model("verifier")
    first = list(maker(models[:1], models[1], VerdictStore(store), **settings).make(rows()))
    assert models[0].asked["traces"] == 2 * 2 * 2  # another seed makes another sample
    again = Model("m"), Model("verifier")
    second = list(maker(again[:1], again[1], VerdictStore(store), **settings).make(rows()))
    assert [one.chosen for one in first] == [one.chosen for one in second]
    assert not again[0].asked
    assert not again[1].asked


@pytest.mark.parametrize("mask", [None, Image.new("RGB", (16, 16), "white")], ids=["whole", "masked"])
def test_chosen_traces_become_rows_that_ask_as_the_judge_is_asked(tmp_path, mask):
    writer, verifier = Model("m", (1, 0)), Model("verifier")
    asked_about = [replace(row, columns={"mask_image": mask}) for row in rows()]
    outcomes = list(maker([writer], verifier, temperatures=[0.0]).make(asked_about))
    assert write_traces(outcomes, tmp_path / "traces", load_preset("edit-rrm")) == 2
    dataset = load_dataset(str(tmp_path / "traces"), split="train", cache_dir=str(tmp_path / "cache"))
    row = trace_rows(dataset, load_preset("edit-rrm"))[0]
    asked = next(text for text in writer.texts if "Check these points" in text)
    said = "".join(part.get("text", "") for part in row["prompt"][0]["content"])
    assert said == asked
    assert [part["type"] for part in row["prompt"][0]["content"]][:2] == ["image", "image"]
    shown = [SOURCE, EDITED] if mask is None else [SOURCE, EDITED, mask]
    assert [image.getpixel((0, 0)) for image in row["images"]] == [image.getpixel((0, 0)) for image in shown]
    assert re.search(r"<score>8.0</score>", row["completion"][0]["content"][0]["text"])


def test_a_preset_without_points_is_refused():
    with pytest.raises(ValueError, match="has no points that a trace goes through"):
        TraceMaker(load_preset("visualquality-r1"), Model("m"), [Model("m")], Model("v"), VerdictStore())
