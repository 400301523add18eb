"""
A verdict says who is better in several ways: winner, ranks, scores, margin, rewards. Whatever the mode, what decides and
which candidates are level, all of them say the same.
"""

import random

import pytest

from arr_trl.evaluation.records import pair_record
from arr_trl.judges import EnsembleJudge, JudgeRow, RubricJudge, Verdict
from arr_trl.judges.choice import ChoiceMode, ChoiceReading
from arr_trl.judges.pointwise import PointwiseMode, PointwiseReading
from arr_trl.judges.ranks import RanksMode, RanksReading
from arr_trl.judges.reward import verdict_rewards
from arr_trl.judges.verdict import CriterionResult
from arr_trl.rubrics import Criterion, Rubric


def sign(number):
    return (number > 0) - (number < 0)


def orders_agree(verdict):
    """All that says which of two candidates is better."""
    rewards = verdict_rewards(verdict)
    n = verdict.candidates
    for i in range(n):
        for j in range(n):
            by_rank = sign(verdict.ranks[j] - verdict.ranks[i])
            assert sign(rewards[i] - rewards[j]) == by_rank
            if verdict.scores is not None:
                assert sign(verdict.scores[i] - verdict.scores[j]) == by_rank
    ahead = [i for i in range(n) if verdict.ranks[i] == min(verdict.ranks)]
    assert verdict.winner == (ahead[0] if len(ahead) == 1 else None)
    if verdict.margin is not None:
        assert 0 <= verdict.margin <= 1 + 1e-9
        if verdict.winner is not None:
            assert verdict.margin > 0
    if n == 2 and verdict.winner is not None:
        signed = pair_record((0, 0), ("base", "trained"), verdict, None, None, {}).margin
        assert sign(signed) == (1 if verdict.winner == 1 else -1)


def rubric_of(kinds, weights):
    criteria = [
        Criterion(text=f"criterion {i}", weight=weight, essential=essential)
        for i, (essential, weight) in enumerate(zip(kinds, weights, strict=True))
    ]
    return Rubric(name="r", task="text-to-image", criteria=criteria)


RUBRICS = [
    rubric_of(kinds, weights)
    for kinds in ([False] * 3, [True] * 3, [True, False, False], [True, True, False])
    for weights in ([1.0, 1.0, 1.0], [0.5, 2.0, 1.0])
]


def made_up(seed):
    """Random points of few values, so that many are level."""
    generator = random.Random(seed)
    n = generator.choice([2, 2, 3, 4])
    return generator, n, lambda: generator.choice([0, 1, 2, 3, 10])


@pytest.mark.parametrize("decide", ["ranks", "criteria"])
@pytest.mark.parametrize("rubric", RUBRICS, ids=lambda r: "".join("eo"[not c.essential] for c in r.criteria))
def test_pointwise(decide, rubric):
    for seed in range(200):
        _, n, points = made_up(seed)
        readings = [PointwiseReading(points() / 10, tuple(points() / 10 for _ in range(3)), "") for _ in range(n)]
        orders_agree(PointwiseMode(decide, (0, 10)).verdict(readings, rubric))


@pytest.mark.parametrize("decide", ["ranks", "criteria"])
@pytest.mark.parametrize("rubric", RUBRICS, ids=lambda r: "".join("eo"[not c.essential] for c in r.criteria))
def test_ranks_in_one_order_and_in_both(decide, rubric):
    for seed in range(200):
        generator, n, points = made_up(seed)
        readings = [
            RanksReading(
                tuple(points() for _ in range(n)), tuple(tuple(points() for _ in range(n)) for _ in range(3)), "", 0
            )
            for _ in range(generator.choice([1, 2]))
        ]
        orders_agree(RanksMode(decide).verdict(readings, rubric))


@pytest.mark.parametrize("tie_margin", [0.0, 0.05, 0.5])
def test_choice(tie_margin):
    for seed in range(200):
        generator, _, _ = made_up(seed)
        readings = []
        for _ in range(generator.choice([1, 2])):
            share = generator.choice([0.5, 0.5, 0.51, 0.7, 1.0, 0.0])
            readings.append(ChoiceReading((share, 1 - share), generator.choice([0, 1])))
        orders_agree(ChoiceMode(tie_margin).verdict(readings, RUBRICS[0]))


class Said(RubricJudge):
    """A judge whose verdicts are given."""

    def __init__(self, verdicts):
        super().__init__(RUBRICS[0], "nobody", base_url="http://127.0.0.1:9/v1")
        self.verdicts = verdicts

    def _compare(self, rows):
        from arr_trl.judges import JudgeStats

        return self.verdicts, JudgeStats()


def test_a_run_logs_how_clear_a_verdict_is_as_an_evaluation_reports_it():
    criteria = tuple(CriterionResult(number, winner) for number, winner in enumerate((1, None, 1, 0), start=1))
    verdict = Verdict(winner=1, ranks=(2.0, 1.0), criteria=criteria)
    logged = {}
    Said([verdict])(["a"] * 2, [None] * 2, log_extra=logged.__setitem__)
    reported = pair_record((0, 0), ("base", "trained"), verdict, None, None, {})
    assert logged["judge_margin"] == [reported.margin] * 2 == [0.25] * 2


@pytest.mark.parametrize("rule", ["majority", "mean_margin"])
def test_ensemble(rule):
    for seed in range(60):
        _, _, points = made_up(seed)
        verdicts = [
            PointwiseMode("criteria", (0, 10)).verdict(
                [PointwiseReading(0.5, tuple(points() / 10 for _ in range(3)), "") for _ in range(2)], RUBRICS[4]
            )
            for _ in range(3)
        ]
        judge = EnsembleJudge([Said([verdict]) for verdict in verdicts], rule=rule)
        (verdict,) = judge.compare([JudgeRow("a", (None, None))])
        orders_agree(verdict)


def test_an_essential_criterion_is_rewarded_before_optional_ones():
    # essential 9 against 8, optional 1 against 10: the first wins, though it has fewer points
    rubric = rubric_of([True, False], [1.0, 1.0])
    readings = [PointwiseReading(0.5, (0.9, 0.1), ""), PointwiseReading(0.5, (0.8, 1.0), "")]
    verdict = PointwiseMode("criteria", (0, 10)).verdict(readings, rubric)
    assert (verdict.winner, verdict.ranks) == (0, (1, 2))
    assert verdict_rewards(verdict) == [1.0, 0.0]
    assert verdict.margin == pytest.approx(0.05)  # a tenth of one of two weights


def test_a_verdict_that_failed_has_no_reward():
    assert verdict_rewards(Verdict(failure="no answer", candidates=3)) == [None] * 3
