import pytest
from PIL import Image

from arr_trl.judges import EnsembleJudge, JudgeReward, JudgeRow, JudgeStats, Verdict


ROW = JudgeRow("a", (Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), "white")))


class Fixed(JudgeReward):
    """Always of one opinion."""

    def __init__(self, verdict):
        super().__init__(max_failure_rate=None, failure_window=1)
        self.verdict = verdict

    def check(self):
        if self.verdict.failure:
            raise ConnectionError(self.verdict.failure)

    def _compare(self, rows):
        return [self.verdict] * len(rows), JudgeStats(calls=len(rows))


FIRST = Fixed(Verdict(winner=0, ranks=(1.0, 2.0), reason="first"))
SECOND = Fixed(Verdict(winner=1, ranks=(2.0, 1.0), reason="second"))
TIE = Fixed(Verdict(ranks=(1.5, 1.5)))
FAILED = Fixed(Verdict(failure="gone"))


def sure(winner, margin):
    return Fixed(Verdict(winner=winner, ranks=(1.0, 2.0) if winner == 0 else (2.0, 1.0), margin=margin))


@pytest.mark.parametrize(
    ("judges", "winner"),
    [
        ([FIRST, FIRST, SECOND], 0),
        ([FIRST, SECOND], None),
        ([FIRST, TIE, TIE], 0),
        ([SECOND, FAILED, FAILED], 1),
        ([TIE, FAILED], None),
    ],
)
def test_the_majority_of_those_with_an_opinion_decides(judges, winner):
    (verdict,) = EnsembleJudge(judges).compare([ROW])
    assert verdict.winner == winner
    assert verdict.failure is None


def test_it_fails_only_where_all_fail_and_reports_abstentions():
    metrics = {}
    pair = {"prompts": ["a", "a"], "completions": list(ROW.images), "log_metric": metrics.__setitem__}
    assert EnsembleJudge([FAILED, FAILED])(**pair) == [None, None]
    assert EnsembleJudge([SECOND, FAILED, FAILED, SECOND])(**pair) == [0.0, 1.0]
    assert metrics["judge/abstention_rate"] == 0.5
    assert metrics["judge/calls"] == 4


def test_the_mean_margin_lets_one_sure_judge_outweigh_two_unsure_ones():
    judges = [sure(0, 0.9), sure(1, 0.2), sure(1, 0.1)]
    (verdict,) = EnsembleJudge(judges, rule="mean_margin").compare([ROW])
    assert verdict.winner == 0
    assert verdict.margin == pytest.approx(0.2)
    assert EnsembleJudge(judges).compare([ROW])[0].winner == 1
    assert EnsembleJudge(judges, rule="mean_margin", tie_margin=0.3).compare([ROW])[0].tie


def test_three_candidates_are_ranked_by_pairwise_majority():
    def ranking(*ranks):
        return Fixed(Verdict(winner=ranks.index(1.0), ranks=ranks, candidates=3))

    row = JudgeRow("a", (*ROW.images, ROW.images[0]))
    judges = [ranking(1.0, 2.0, 3.0), ranking(1.0, 3.0, 2.0), ranking(2.0, 1.0, 3.0)]
    assert EnsembleJudge(judges).compare([row])[0].ranks == (1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="compares pairs, not 3"):
        EnsembleJudge(judges, rule="mean_margin").compare([row])


def test_check_asks_every_judge():
    with pytest.raises(ConnectionError, match="gone"):
        EnsembleJudge([FIRST, FAILED]).check()


def test_one_judge_is_no_ensemble():
    with pytest.raises(ValueError, match="at least two judges"):
        EnsembleJudge([FIRST])
