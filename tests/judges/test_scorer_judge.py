"""A scorer that compares candidates: alone, on labelled pairs, and as a member of an ensemble."""

import math

import pytest
from PIL import Image

from arr_trl.judges import JudgeFailureError, JudgeRow, ScorerJudge
from arr_trl.rewards import RewardError, Scorer


def grey(level):
    return Image.new("RGB", (4, 4), (level, level, level))


class Brightness(Scorer):
    """The first pixel; a black picture has no score."""

    __name__ = "brightness"

    def __init__(self):
        self.seen = []

    def check(self):
        raise ConnectionError("the server is down")

    def __call__(self, prompts, completions, **columns):
        self.seen.append((prompts, columns))
        return [image.getpixel((0, 0))[0] / 10 or None for image in completions]


def test_the_higher_score_is_better_and_its_lead_is_the_margin():
    rows = [JudgeRow("a", (grey(20), grey(50), grey(30))), JudgeRow("b", (grey(10), grey(10)))]
    best, level = ScorerJudge(Brightness()).compare(rows)
    assert (best.winner, best.ranks, best.scores, best.margin) == (1, (3.0, 1.0, 2.0), (2.0, 5.0, 3.0), 2.0)
    assert level.tie
    assert level.scores == (1.0, 1.0)


def test_a_lead_within_the_margin_is_a_tie_and_scores_stay():
    (verdict,) = ScorerJudge(Brightness(), tie_margin=2.0).compare([JudgeRow("a", (grey(20), grey(40)))])
    assert verdict.tie
    assert verdict.scores == (2.0, 4.0)


def test_a_candidate_without_a_score_has_no_reward_and_a_row_without_any_no_verdict():
    judge, metrics = ScorerJudge(Brightness(), max_failure_rate=None), {}
    pictures = [grey(20), grey(0), grey(0), grey(0)]
    rewards = judge(prompts=["a"] * 2 + ["b"] * 2, completions=pictures, log_metric=metrics.__setitem__)
    assert rewards == [2.0, None, None, None]
    assert metrics["judge/failure_rate"] == 0.5
    first, second = judge.compare([JudgeRow("a", tuple(pictures[:2])), JudgeRow("b", tuple(pictures[2:]))])
    assert first.winner == 0
    assert math.isnan(first.ranks[1])
    assert second.failure == "brightness has no score for any of the candidates."


def test_it_stops_the_run_and_checks_as_every_judge():
    judge = ScorerJudge(Brightness(), max_failure_rate=0.5, failure_window=2)
    with pytest.raises(JudgeFailureError, match="2 of the last 2 comparisons"):
        judge(prompts=["a"] * 4, completions=[grey(0)] * 4)
    with pytest.raises(ConnectionError, match="the server is down"):
        judge.check()


def test_a_scorer_sees_the_prompt_of_each_picture_and_what_was_edited():
    scorer = Brightness()
    ScorerJudge(scorer).compare([JudgeRow("a", (grey(1), grey(2)), grey(9)), JudgeRow("b", (grey(3), grey(4)))])
    ((prompts, columns),) = scorer.seen
    assert prompts == ["a", "a", "b", "b"]
    assert [len(sources) for sources in columns["source_image"]] == [1, 1, 0, 0]


def test_a_scorer_that_returns_something_else_is_named():
    scorer = Brightness()
    scorer.__class__ = type("Short", (Brightness,), {"__call__": lambda self, prompts, completions, **columns: [1.0]})
    with pytest.raises(RewardError, match="'brightness' returned 1 rewards for 2 images"):
        ScorerJudge(scorer).compare([JudgeRow("a", (grey(1), grey(2)))])
