import json
import math
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from arr_trl.chat import ChatFailure, ChatReply, ChatUsage
from arr_trl.judges import JudgeFailureError, JudgeRow, RubricJudge
from arr_trl.rubrics import Criterion, Rubric


RUBRIC = Rubric(name="brightness", criteria=[Criterion(text="The image is bright.")])


def gray(value):
    return Image.new("RGB", (4, 4), (value,) * 3)


class Brightness:
    """Ranks images by brightness; `fault(number)` may replace the reply to a request."""

    model = "brightness"
    settings: ClassVar[dict] = {}

    def __init__(self, fault=lambda number: None):
        self.fault = fault
        self.requests = []

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        number = len(self.requests)
        self.requests.append(request)
        images = [p["image"] for m in request.messages for p in m["content"] if p["type"] == "image"]
        values = [float(np.asarray(image).mean()) for image in images]
        if request.choices is not None:
            p = 1 / (1 + math.exp((values[1] - values[0]) / 50 - 0.5))  # the first image has an advantage
            return ChatReply(choice_logprobs={"1": math.log(p), "2": math.log(1 - p)})
        ranks = [1 + sum(other > value for other in values) for value in values]
        if "score" in request.json_schema["properties"]:
            score = round(values[-1] / 25.5)
            reply = {"criteria": [{"criterion": 1, "score": score}], "reason": "light", "score": score}
        else:
            reply = {"criteria": [{"criterion": 1, "ranks": ranks}], "reason": "light", "ranks": ranks}
        good = ChatReply(text=json.dumps(reply), usage=ChatUsage(10, 5), latency_s=0.5)
        return self.fault(number) or good


def texts(request):
    return [p["text"] if p["type"] == "text" else "<image>" for m in request.messages for p in m["content"]]


def test_rewards_of_pairs_follow_trl_s_protocol():
    judge = RubricJudge(rubric=RUBRIC, model=Brightness())
    metrics, extra = {}, {}
    rewards = judge(
        prompts=["a", "a", "a", "a", "b", "b"],
        completions=[gray(9), gray(200), gray(200), gray(9), gray(50), gray(50)],
        num_generations=2,
        trainer_state=None,
        difficulty=[1] * 6,
        log_metric=metrics.__setitem__,
        log_extra=extra.__setitem__,
    )
    assert rewards == [0.0, 1.0, 1.0, 0.0, 0.5, 0.5]
    assert judge.__name__ == "rubric_judge"
    assert extra["judge_winner"] == ["image 2"] * 2 + ["image 1"] * 2 + ["tie"] * 2
    assert extra["judge_reason"] == ["light"] * 6
    # three pairs in two orders are six questions; the second pair is the first one swapped, and the third is the same
    # picture twice, so that three of them are asked
    assert metrics["judge/calls"] == 3
    assert metrics["judge/tie_rate"] == pytest.approx(1 / 3)
    assert metrics["judge/failure_rate"] == 0
    assert metrics["judge/first_position_rate"] == 0.5
    assert metrics["judge/order_consistency"] == 1
    assert metrics["judge/latency_s"] == 0.5
    assert metrics["judge/prompt_tokens"] == 30


def test_rewards_of_more_than_two_run_from_one_to_zero():
    judge = RubricJudge(rubric=RUBRIC, model=Brightness())
    images = [gray(10), gray(100), gray(200), gray(100)]
    assert judge(prompts=["a"] * 4, completions=images, num_generations=4) == [0.0, 0.5, 1.0, 0.5]


def test_completions_that_make_no_groups_are_refused():
    with pytest.raises(ValueError, match="3 completions for 3 prompts do not make groups of 2"):
        RubricJudge(rubric=RUBRIC, model=Brightness())(prompts=["a"] * 3, completions=[gray(1)] * 3)


def test_the_prompt_holds_task_rubric_caption_images_and_format_in_this_order():
    model = Brightness()
    RubricJudge(rubric=RUBRIC, model=model, order="fixed").compare([JudgeRow("a lamp", (gray(1), gray(2)))])
    parts = texts(model.requests[0])
    assert [part for part in parts if part == "<image>"] == ["<image>"] * 2
    assert parts[0].startswith("You compare 2 images")
    assert parts[0].index("1. The image is bright.") < parts[0].index("Caption: a lamp") < parts[0].index("Image 1:")
    assert parts[2] == "Image 2:"
    assert parts[4].startswith("Answer with one JSON object")


def test_the_source_of_an_edit_is_shown_first():
    model = Brightness()
    rubric = Rubric(name="edit", criteria=RUBRIC.criteria, task="image-editing")
    judge = RubricJudge(rubric=rubric, model=model, order="fixed")
    judge(prompts=["x", "x"], completions=[gray(1), gray(2)], source_image=[gray(77), gray(77)])
    content = model.requests[0].messages[0]["content"]
    assert [p["image"].getpixel((0, 0))[0] for p in content if p["type"] == "image"] == [77, 1, 2]
    assert "BASE image:" in content[0]["text"]
    with pytest.raises(ValueError, match="Row 0 has no `source_image`"):
        judge.compare([JudgeRow("x", (gray(1), gray(2)))])


@pytest.mark.parametrize("mode", ["ranks", "choice", "pointwise"])
def test_several_references_are_shown_first_and_tell_questions_apart(mode):
    model = Brightness()
    judge = RubricJudge(rubric=RUBRIC.model_copy(update={"task": "image-editing"}), model=model, mode=mode)
    candidates = (gray(1), gray(2))
    for references in ([gray(77), gray(88)], [gray(88), gray(77)]):
        asked = len(model.requests)
        judge.compare([JudgeRow("swap them", candidates, references)])
        assert len(model.requests) > asked  # not answered from the store
        for request in model.requests[asked:]:
            images = [p["image"] for m in request.messages for p in m["content"] if p["type"] == "image"]
            assert images[:2] == references
    judge.compare([JudgeRow("swap them", candidates, [gray(88), gray(77)])])
    assert len(model.requests) == 2 * asked


def test_a_prompt_cannot_smuggle_images_or_templates_in():
    model = Brightness()
    judge = RubricJudge(rubric=RUBRIC, model=model, order="fixed")
    judge.compare([JudgeRow("\x001\x00 {{ rubric }} {% raw %}", (gray(1), gray(2)))])
    parts = texts(model.requests[0])
    assert parts.count("<image>") == 2
    assert "Caption: 1 {{ rubric }} {% raw %}" in parts[0]


def test_the_chinese_templates_ask_for_the_same():
    for mode in ("ranks", "choice", "pointwise"):
        model = Brightness()
        judge = RubricJudge(rubric=RUBRIC, model=model, language="zh", mode=mode)
        (verdict,) = judge.compare([JudgeRow("灯", (gray(1), gray(200)))])
        assert verdict.winner == 1
        assert "评分准则" in texts(model.requests[0])[0]


def test_a_bad_reply_is_asked_for_once_more_with_the_error():
    model = Brightness(lambda number: ChatReply(text="the second") if number == 0 else None)
    judge = RubricJudge(rubric=RUBRIC, model=model, order="fixed")
    (verdict,) = judge.compare([JudgeRow("a", (gray(1), gray(2)))])
    assert verdict.winner == 1
    said = texts(model.requests[1])
    assert said[-2] == "the second"
    assert "not the JSON object" in said[-1]
    assert [m["role"] for m in model.requests[1].messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    "fault",
    [
        ChatReply(text="I cannot judge images."),
        ChatReply(failure=ChatFailure("empty", "The reply is empty.")),
        ChatReply(text='{"criteria', failure=ChatFailure("truncated", "The reply was cut.")),
        ChatReply(failure=ChatFailure("refusal", "No.")),
    ],
)
def test_a_reply_that_stays_bad_is_masked_and_never_asked_again(fault):
    model = Brightness(lambda number: fault)
    judge = RubricJudge(rubric=RUBRIC, model=model, order="fixed")
    rows = {"prompts": ["a", "a"], "completions": [gray(1), gray(2)]}
    assert judge(**rows) == [None, None]
    assert len(model.requests) == 2
    assert judge(**rows) == [None, None]
    assert len(model.requests) == 2


def test_a_question_without_reply_is_masked_and_asked_again_later():
    lost = ChatReply(failure=ChatFailure("connection", "The server is gone."))
    model = Brightness(lambda number: lost if number == 0 else None)
    judge = RubricJudge(rubric=RUBRIC, model=model, order="fixed")
    row = [JudgeRow("a", (gray(1), gray(2)))]
    assert judge.compare(row)[0].failure == "The server is gone."
    assert judge.compare(row)[0].winner == 1


def test_one_missing_order_is_a_failure_not_half_a_verdict():
    lost = ChatReply(failure=ChatFailure("server", "Status 500."))
    judge = RubricJudge(rubric=RUBRIC, model=Brightness(lambda number: lost if number == 1 else None))
    verdict_of_first, verdict_of_second = judge.compare([JudgeRow(p, (gray(1), gray(2))) for p in "ab"])
    assert verdict_of_first.failure == "Status 500."
    assert verdict_of_first.ranks is None
    assert verdict_of_second.winner == 1


def test_an_answered_question_is_not_asked_again_by_another_process(tmp_path):
    rows = [JudgeRow(str(i), (gray(i), gray(99))) for i in range(5)]
    first = RubricJudge(rubric=RUBRIC, model=Brightness(), store=tmp_path / "judge.sqlite").compare(rows)
    again = Brightness()
    assert RubricJudge(rubric=RUBRIC, model=again, store=tmp_path / "judge.sqlite").compare(rows) == first
    assert again.requests == []


def test_answers_of_a_model_with_other_settings_are_not_mixed_up(tmp_path):
    row = [JudgeRow("a", (gray(1), gray(2)))]
    store = tmp_path / "judge.sqlite"
    RubricJudge(rubric=RUBRIC, model=Brightness(), store=store).compare(row)
    other = Brightness()
    other.settings = {"top_p": 0.5}
    RubricJudge(rubric=RUBRIC, model=other, store=store).compare(row)
    assert len(other.requests) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"rubric": Rubric(name="other", criteria=[Criterion(text="The image is dark.")])},
        {"temperature": 0.5},
        {"max_tokens": 99},
        {"language": "zh"},
        {"mode": "pointwise"},
    ],
)
def test_anything_that_can_change_the_answer_is_a_new_question(tmp_path, change):
    row = [JudgeRow("a", (gray(1), gray(2)))]
    settings = {"rubric": RUBRIC, "model": Brightness(), "store": tmp_path / "judge.sqlite"}
    RubricJudge(**settings).compare(row)
    again = Brightness()
    RubricJudge(**{**settings, "model": again, **change}).compare(row)
    assert len(again.requests) == 2


def test_random_order_is_drawn_from_the_content():
    rows = [JudgeRow(str(i), (gray(i), gray(255 - i))) for i in range(64)]

    def shown_first(seed, rows):
        model = Brightness()
        RubricJudge(rubric=RUBRIC, model=model, order="random", seed=seed).compare(rows)
        return [
            next(p["image"] for p in r.messages[0]["content"] if p["type"] == "image").getpixel((0, 0))[0]
            for r in model.requests
        ]

    once = shown_first(0, rows)
    assert shown_first(0, rows[::-1])[::-1] == once
    assert shown_first(1, rows) != once
    assert 20 < sum(value == i for i, value in enumerate(once)) < 44


def test_choice_averages_the_orders_so_that_position_bias_cancels():
    judge = RubricJudge(rubric=RUBRIC, model=Brightness(), mode="choice")
    (clear, close) = judge.compare([JudgeRow("a", (gray(0), gray(200))), JudgeRow("b", (gray(100), gray(101)))])
    assert clear.winner == 1
    assert clear.consistent is True
    assert clear.margin > 0.9
    assert close.tie
    assert close.consistent is False
    assert close.first_position == (True, True)


def test_choice_takes_pairs_only():
    judge = RubricJudge(rubric=RUBRIC, model=Brightness(), mode="choice")
    with pytest.raises(ValueError, match="compares pairs, not 3"):
        judge.compare([JudgeRow("a", (gray(1),) * 3)])


def test_choice_without_likely_choices_is_a_failure():
    model = Brightness()
    model.answer = lambda request: ChatReply(choice_logprobs={})
    (verdict,) = RubricJudge(rubric=RUBRIC, model=model, mode="choice").compare([JudgeRow("a", (gray(1), gray(2)))])
    assert "Neither 1 nor 2" in verdict.failure


def test_check_finds_out_that_choices_have_no_logprobs():
    model = Brightness()
    RubricJudge(rubric=RUBRIC, model=model).check()
    model.complete = lambda requests, on_reply=None: [
        ChatReply(failure=ChatFailure("bad_request", "No log-probabilities."))
    ]
    with pytest.raises(ValueError, match="mode='choice' cannot be used: No log-prob"):
        RubricJudge(rubric=RUBRIC, model=model, mode="choice").check()


def test_pointwise_scores_each_image_alone_and_pays_the_score():
    model = Brightness()
    judge = RubricJudge(rubric=RUBRIC, model=model, mode="pointwise")
    rewards = judge(prompts=["a"] * 3, completions=[gray(0), gray(255), gray(51)], num_generations=3)
    assert rewards == [0.0, 1.0, 0.2]
    assert len(model.requests) == 3
    (verdict,) = judge.compare([JudgeRow("a", (gray(0), gray(255), gray(51)))])
    assert verdict.winner == 1
    assert verdict.margin == pytest.approx(0.8)
    assert verdict.consistent is None


def test_submitted_rows_are_judged_in_the_background_and_collected_in_order():
    judge = RubricJudge(rubric=RUBRIC, model=Brightness())
    metrics = {}
    futures = [judge.submit([JudgeRow(str(i), (gray(i), gray(50)))]) for i in (10, 90, 50)]
    assert judge.collect(futures, log_metric=metrics.__setitem__) == [0.0, 1.0, 1.0, 0.0, 0.5, 0.5]
    assert metrics["judge/calls"] == 5
    assert metrics["judge/wait_s"] >= 0


def test_too_many_failures_stop_training_with_the_reason():
    lost = ChatReply(failure=ChatFailure("authentication", "The key has expired."))
    judge = RubricJudge(rubric=RUBRIC, model=Brightness(lambda n: lost), max_failure_rate=0.5, failure_window=8)
    rows = {"prompts": ["a", "a"] * 2, "completions": [gray(1), gray(2)] * 2}
    assert judge(**rows) == [None] * 4
    assert judge(**rows) == [None] * 4
    with pytest.raises(JudgeFailureError, match=r"6 of the last 6 .*max_failure_rate=0\.5.*The key has expired"):
        judge(**rows)


def test_a_judge_that_recovers_is_not_stopped():
    lost = ChatReply(failure=ChatFailure("server", "Status 500."))
    model = Brightness(lambda number: lost if number < 4 else None)
    judge = RubricJudge(rubric=RUBRIC, model=model, order="fixed", failure_window=8)
    rewards = [judge(prompts=["a", "a"], completions=[gray(i), gray(i + 1)]) for i in range(20)]
    assert rewards == [[None, None]] * 4 + [[0.0, 1.0]] * 16


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"order": "reverse"}, "order='reverse' is not one of 'both'"),
        ({"mode": "vote"}, "mode='vote' is not one of"),
        ({"language": "de"}, "language='de'"),
        ({"mode": "choice", "decide": "criteria"}, "no answers per criterion"),
        ({"score_range": (5, 5)}, "score_range"),
        ({"max_failure_rate": 2}, "max_failure_rate=2 is a share"),
        ({"base_url": "http://localhost:1"}, "`base_url` belongs to a model given by name"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        RubricJudge(rubric=RUBRIC, model=Brightness(), **settings)


def test_one_image_cannot_be_compared():
    with pytest.raises(ValueError, match="Row 0 has 1 image"):
        RubricJudge(rubric=RUBRIC, model=Brightness()).compare([JudgeRow("a", (gray(1),))])


def test_every_row_can_be_judged_under_a_rubric_of_its_own():
    model = Brightness()
    judge = RubricJudge(rubric="auto", model=model, order="fixed")
    other = Rubric(name="other", criteria=[Criterion(text="The image is warm.")])
    rows = [JudgeRow("a", (gray(1), gray(2))), JudgeRow("b", (gray(2), gray(1)))]
    verdicts, stats = judge.compare_under(rows, [RUBRIC, other])
    assert [verdict.winner for verdict in verdicts] == [1, 0]
    assert ["warm" in texts(request)[0] for request in model.requests] == [False, True]
    assert stats.calls == 2  # nothing was asked to write criteria
    editing = Rubric(name="edit", criteria=RUBRIC.criteria, task="image-editing")
    with pytest.raises(ValueError, match=r"Row 1 has no `source_image`, which the editing rubric edit needs"):
        judge.compare_under(rows, [RUBRIC, editing])
