import pytest
from PIL import Image

from arr_trl.judges import EnsembleJudge, JudgeReward, JudgeRow, JudgeStats, PresetJudge, TournamentJudge, Verdict
from arr_trl.judges.scores import score_verdict
from arr_trl.tiny_scenes import TinyScenesJudge


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


@pytest.mark.parametrize("wrapped", [lambda judge: judge, TournamentJudge])
def test_a_column_that_a_member_needs_is_missed_before_anybody_is_asked(wrapped):
    judge = wrapped(EnsembleJudge([FIRST, PresetJudge("reference-yes", TinyScenesJudge())]))
    with pytest.raises(ValueError, match="no column 'reference_image'"):
        judge.check_first_row([{"prompt": "a"}])
    judge.check_first_row([{"prompt": "a", "reference_image": ROW.images[0]}])
    assert [preset.name for preset in judge.presets] == ["reference-yes"]
    assert judge.asked_by == ["reference-yes 1"]


def test_one_judge_is_no_ensemble():
    with pytest.raises(ValueError, match="at least two judges"):
        EnsembleJudge([FIRST])


class Scored(JudgeReward):
    """Gives candidates the scores it was made with, `None` where it has none."""

    def __init__(self, name, *scores):
        super().__init__(max_failure_rate=None, failure_window=1)
        self.__name__ = name
        self.scores = scores

    def check(self):
        pass

    def _compare(self, rows):
        return [score_verdict(self.scores, 0.0, self.__name__) for _ in rows], JudgeStats()


def weighed(judges, n, **settings):
    """Rewards, metrics and columns of the table for one prompt."""
    metrics, extra = {}, {}
    ensemble = EnsembleJudge(judges, rule="weighted_scores", max_failure_rate=None, **settings)
    pictures = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(n)]
    logs = {"log_metric": metrics.__setitem__, "log_extra": extra.__setitem__}
    rewards = ensemble(prompts=["a"] * n, completions=pictures, num_generations=n, **logs)
    return rewards, metrics, extra


def test_no_scale_drowns_another_when_scores_are_normalised_in_the_group():
    judges = [Scored("loud", 100.0, 300.0, 200.0), Scored("quiet", 0.3, 0.1, 0.2)]
    assert weighed(judges, 3)[0] == pytest.approx([0, 0, 0])
    loud_first = weighed(judges, 3, normalise="none")[0]
    assert loud_first == pytest.approx([50.15, 150.05, 100.1])
    z = 1.5**0.5  # of the ends of three that are evenly spaced
    assert weighed(judges, 3, weights=[1.0, 3.0])[0] == pytest.approx([z / 2, -z / 2, 0])


def test_a_member_without_a_score_drops_out_with_its_weight():
    judges = [Scored("whole", 1.0, 3.0), Scored("partly", None, 9.0), FAILED]
    rewards, metrics, extra = weighed(judges, 2, normalise="none", weights=[1.0, 10.0, 100.0])
    assert rewards == [1.0, 3.0]
    assert extra["judge_whole"] == [1.0, 3.0]
    assert extra["judge_partly"] == [None, 9.0]
    assert metrics["judge/score/partly"] == 9.0
    assert metrics["judge/abstention_rate"] == pytest.approx(1 / 3)


def test_where_no_member_scores_all_there_is_no_reward():
    rewards, _, extra = weighed([Scored("one", None, 9.0), Scored("other", 1.0, None)], 2)
    assert rewards == [None, None]
    assert extra["judge_winner"] == ["failed", "failed"]
    assert extra["judge_reason"][0] == "No judge of the ensemble has a score for every candidate."
    assert weighed([FAILED, Scored("one", None, None)], 2)[2]["judge_reason"] == ["gone", "gone"]


def test_ranks_are_weighed_with_scores_and_a_level_member_says_nothing():
    rewards, _, extra = weighed([FIRST, Scored("level", 7.0, 7.0), Scored("level", 0.1, 0.2)], 2, weights=[2, 1, 1])
    assert rewards == pytest.approx([0.25, -0.25])  # (2 - 1) / 4
    assert extra["judge_level"] == [7.0, 7.0]
    assert extra["judge_level_2"] == [0.1, 0.2]
    # level to the last digit of floats is level
    assert weighed([Scored("a", 0.1 + 0.2, 0.3), Scored("b", 1, 1)], 2)[0] == [0.0, 0.0]


def test_its_verdict_ranks_by_the_weighted_scores():
    judges = [Scored("a", 1.0, 2.0, 4.0), Scored("b", 1.0, 2.0, 4.0)]
    row = JudgeRow("a", (ROW.images[0],) * 3)
    (verdict,) = EnsembleJudge(judges, rule="weighted_scores", normalise="none").compare([row])
    assert (verdict.winner, verdict.ranks, verdict.margin) == (2, (3.0, 2.0, 1.0), 2.0)
    (verdict,) = EnsembleJudge(judges, rule="weighted_scores", normalise="none", tie_margin=2.0).compare([row])
    assert verdict.tie


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rule": "weighted_scores", "weights": [1.0]}, "2 numbers above 0"),
        ({"rule": "weighted_scores", "weights": [1.0, 0.0]}, "2 numbers above 0"),
        ({"rule": "majority", "weights": [1.0, 1.0]}, "`weights` belong to rule='weighted_scores'"),
        ({"rule": "weighted_scores", "normalise": "batch"}, "normalise='batch' is not one of"),
    ],
)
def test_weights_that_mean_nothing_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        EnsembleJudge([FIRST, SECOND], **settings)
