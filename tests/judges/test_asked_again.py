"""Answers are kept. Replies that are none are kept for the run, and the next one asks again."""

import sqlite3
import warnings

import pytest
from test_rubric_judge import RUBRIC, Brightness, gray

from arr_trl.chat import ChatFailure, ChatReply
from arr_trl.judges import JudgeRow, RubricJudge


ROWS = [JudgeRow(str(i), (gray(i), gray(99))) for i in range(3)]
NONSENSE = ChatReply(text="The images are nice.")
LOST = ChatReply(failure=ChatFailure("connection", "The server is gone."))


@pytest.fixture
def judge_on(tmp_path):
    def judge(model, **settings):
        return RubricJudge(rubric=RUBRIC, model=model, order="fixed", store=tmp_path / "judge.sqlite", **settings)

    return judge


def test_a_server_that_was_mended_is_asked_again_by_the_next_run(judge_on):
    broken = Brightness(lambda number: None if number == 0 else NONSENSE)
    first = judge_on(broken)
    verdicts = first.compare(ROWS)
    assert [verdict.failure is None for verdict in verdicts] == [True, False, False]
    assert first.compare(ROWS) == verdicts  # this run keeps to what it got
    assert len(broken.requests) == 5
    assert first.answered == 2 * len(ROWS)  # each question once in each comparison, however often it was put
    mended = Brightness()
    second = judge_on(mended)
    with pytest.warns(
        UserWarning, match=r"2 questions in the verdict store .*judge\.sqlite had no usable answer in an"
    ):
        assert [verdict.winner for verdict in second.compare(ROWS)] == [1, 1, 1]
    assert len(mended.requests) == 2
    assert [answer.asked for answer in second.store] == [1, 3, 3]
    third = Brightness()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge_on(third).compare(ROWS)
    assert third.requests == []


def test_a_server_that_stays_broken_costs_each_run_one_question_and_its_repair(judge_on):
    for run in range(3):
        broken = Brightness(lambda number: NONSENSE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            judge = judge_on(broken)
            judge.compare(ROWS)
            judge.compare(ROWS)
        assert len(broken.requests) == 6
        assert [answer.asked for answer in judge.store] == [2 * run + 2] * 3


def test_a_repair_that_failed_stands_for_the_run_that_asked_for_it(judge_on):
    class Ends(Brightness):
        def complete(self, requests, on_reply=None):
            if len(requests[0].messages) > 1:  # a repair
                raise KeyboardInterrupt
            return super().complete(requests)

    with pytest.raises(KeyboardInterrupt):
        judge_on(Ends(lambda number: NONSENSE)).compare(ROWS[:1])
    model = Brightness(lambda number: NONSENSE)
    second = judge_on(model)
    for _ in range(2):
        assert second.compare(ROWS[:1])[0].failure is not None
    assert len(model.requests) == 1


def test_a_bad_reply_is_not_forgotten_for_a_server_that_has_gone(judge_on):
    judge_on(Brightness(lambda number: NONSENSE)).compare(ROWS[:1])
    gone = judge_on(Brightness(lambda number: LOST))
    with pytest.warns(UserWarning, match="It begins: The images are nice"):
        (verdict,) = gone.compare(ROWS[:1])
    assert verdict.failure == "The server is gone."
    assert [(answer.status, answer.reply) for answer in gone.store] == [("invalid", NONSENSE.text)]


def test_a_kept_answer_that_is_none_by_now_is_asked_again(judge_on, tmp_path):
    first = judge_on(Brightness())
    first.compare(ROWS[:1])
    first.store.close()
    with sqlite3.connect(tmp_path / "judge.sqlite") as store:  # as a version kept it that let the last key win
        store.execute(
            """UPDATE questions SET reply = replace(reply, '"ranks": [2, 1]', '"ranks": [2,1], "ranks": [1,2]')"""
        )
    model = Brightness()
    second = judge_on(model)
    with pytest.warns(UserWarning, match="the key 'ranks' comes twice"):
        (verdict,) = second.compare(ROWS[:1])
    assert verdict.winner == 1
    assert len(model.requests) == 1
    assert judge_on(Brightness(lambda number: LOST)).compare(ROWS[:1])[0].winner == 1


def test_one_bad_token_of_a_choice_is_asked_for_again_too(judge_on):
    silent = Brightness()
    silent.answer = lambda request: ChatReply(choice_logprobs={})
    row = [JudgeRow("b", (gray(0), gray(200)))]
    assert judge_on(silent, mode="choice").compare(row)[0].failure is not None
    with pytest.warns(UserWarning, match="1 questions"):
        assert judge_on(Brightness(), mode="choice").compare(row)[0].winner == 1
