"""Groups compared two by two: who meets whom, what a failed comparison costs, and when it stops."""

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from PIL import Image

from arr_trl.judges import JudgeFailureError, JudgeReward, JudgeRow, JudgeStats, TournamentJudge, Verdict
from arr_trl.objectives import win_rates
from arr_trl.rubrics import Criterion, Rubric


class BrighterWins(JudgeReward):
    """Prefers the brighter picture; says nothing of the pairs in `silent`, by the grey levels of both."""

    def __init__(self, silent=(), level=0):
        super().__init__(None, 1)
        self.silent, self.level, self.asked = {frozenset(pair) for pair in silent}, level, []

    def check(self):
        pass

    def questions_per_row(self, num_candidates):
        return 2

    def _compare(self, rows):
        self.asked += rows
        return [self._of(row) for row in rows], JudgeStats(calls=2 * len(rows))

    def _of(self, row):
        first, second = (image.getpixel((0, 0)) for image in row.images)
        if frozenset((first, second)) in self.silent:
            return Verdict(failure="No answer.")
        if abs(first - second) <= self.level:
            return Verdict(ranks=(1.5, 1.5), consistent=True)
        winner = int(second > first)
        ranks = (2.0, 1.0) if winner else (1.0, 2.0)
        return Verdict(
            winner, ranks, consistent=True, first_position=(winner == 0,), reason=f"{max(first, second)} is brighter"
        )


def greys(*levels):
    return [Image.new("L", (2, 2), level) for level in levels]


def rewards(judge, *levels, prompt="a"):
    return judge([prompt] * len(levels), greys(*levels), num_generations=len(levels))


def test_rewards_are_win_rates_over_all_pairs():
    judge = BrighterWins()
    assert rewards(TournamentJudge(judge), 30, 10, 20, 40) == pytest.approx([2 / 3, 0, 1 / 3, 1])
    assert len(judge.asked) == 6
    (verdict,) = TournamentJudge(judge).compare([JudgeRow("a", tuple(greys(30, 10, 20, 40)))])
    assert verdict.winner == 3
    assert verdict.ranks == (2, 4, 3, 1)
    assert verdict.reason == "40 is brighter"
    assert TournamentJudge(judge).questions_per_row(4) == 12


def test_ties_are_one_half():
    assert rewards(TournamentJudge(BrighterWins(level=1)), 10, 11, 20) == [0.25, 0.25, 1.0]


def test_failed_comparison_is_in_neither_mean():
    judge = TournamentJudge(BrighterWins(silent=[(30, 10)]))
    assert rewards(judge, 30, 10, 20, 40) == [0.5, 0.0, 1 / 3, 1.0]
    comparisons = torch.tensor([
        [[math.nan, math.nan, 1.0, 0.0], [math.nan, math.nan, 0.0, 0.0], [0.0, 1.0, math.nan, 0.0], [1.0, 1.0, 1.0, math.nan]]
    ])  # fmt: skip
    assert win_rates(comparisons)[0].tolist() == pytest.approx([0.5, 0.0, 1 / 3, 1.0])


def test_candidate_of_which_nothing_is_known_has_no_reward_and_no_rank():
    judge = TournamentJudge(BrighterWins(silent=[(10, 20), (10, 30)]))
    assert rewards(judge, 10, 20, 30) == [None, 0.0, 1.0]
    (verdict,) = judge.compare([JudgeRow("a", tuple(greys(10, 20, 30)))])
    assert verdict.winner == 2
    assert math.isnan(verdict.ranks[0])
    assert verdict.ranks[1:] == (2, 1)


def test_group_without_any_answer_is_a_failure_with_its_reason():
    judge = TournamentJudge(BrighterWins(silent=combinations((10, 20, 30), 2)))
    assert rewards(judge, 10, 20, 30) == [None] * 3
    (verdict,) = judge.compare([JudgeRow("a", tuple(greys(10, 20, 30)))])
    assert verdict.failure == "No answer."
    assert verdict.candidates == 3


def test_a_pair_is_rewarded_as_its_judge_does():
    assert rewards(TournamentJudge(BrighterWins()), 10, 20) == [0.0, 1.0]
    assert rewards(TournamentJudge(BrighterWins(), pairs="cycle"), 10, 10) == [0.5, 0.5]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9])
def test_a_cycle_asks_about_each_candidate_twice(n):
    pairs = TournamentJudge(BrighterWins(), pairs="cycle")._pairs_of("a", n)
    counts = Counter(i for pair in pairs for i in pair)
    assert set(counts) == set(range(n))
    assert set(counts.values()) == {1 if n == 2 else 2}


@pytest.mark.parametrize(("n", "k"), [(4, 1), (4, 2), (8, 3), (8, 4), (9, 4), (16, 5), (5, 9)])
def test_each_candidate_meets_as_many_others_as_was_said(n, k):
    judge = TournamentJudge(BrighterWins(), pairs=k)
    drawn = {prompt: judge._pairs_of(prompt, n) for prompt in "abcdefgh"}
    for pairs in drawn.values():
        counts = Counter(i for pair in pairs for i in pair)
        assert len(set(pairs)) == len(pairs)
        assert [counts[i] for i in range(n)] == [min(k, n - 1)] * n
    assert drawn["a"] == TournamentJudge(BrighterWins(), pairs=k)._pairs_of("a", n)
    if k < n - 1:
        assert len({tuple(pairs) for pairs in drawn.values()}) > 1


def test_designs_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="5 candidates cannot have 3 opponents each"):
        rewards(TournamentJudge(BrighterWins(), pairs=3), 1, 2, 3, 4, 5)
    for pairs in ("some", 0, -1):
        with pytest.raises(ValueError, match="is not 'all', 'cycle' or how many opponents"):
            TournamentJudge(BrighterWins(), pairs=pairs)


def test_pairs_without_an_answer_stop_a_run_though_every_group_has_some():
    judge = TournamentJudge(BrighterWins(silent=[(10, 20), (20, 30)]), max_failure_rate=0.5, failure_window=6)
    with pytest.raises(JudgeFailureError, match="4 of the last 6 comparisons"):
        judge(["a"] * 3 + ["b"] * 3, greys(10, 20, 30, 10, 20, 30), num_generations=3)


def test_what_it_measures_is_logged():
    logged = {}
    judge = TournamentJudge(BrighterWins(silent=[(10, 20)]))
    judge(
        ["a"] * 3,
        greys(10, 20, 30),
        num_generations=3,
        log_metric=lambda name, value: logged.update({name: float(value)}),
    )
    assert logged["judge/abstention_rate"] == pytest.approx(1 / 3)
    assert logged["judge/calls"] == 6
    assert logged["judge/failure_rate"] == 0


def test_orders_are_counted_by_pairs_and_not_by_groups_that_agree_in_all():
    class Contradicts(BrighterWins):
        def _of(self, row):
            verdict = super()._of(row)
            levels = sorted(image.getpixel((0, 0)) for image in row.images)
            return replace(verdict, winner=None, ranks=(1.5, 1.5), consistent=False) if levels == [10, 20] else verdict

    logged = {}
    TournamentJudge(Contradicts())(
        ["a"] * 4,
        greys(10, 20, 30, 40),
        num_generations=4,
        log_metric=lambda name, value: logged.update({name: float(value)}),
    )
    assert logged["judge/order_consistency"] == pytest.approx(5 / 6)


def test_rubric_for_edits_meets_rows_without_a_source_before_training():
    judge = BrighterWins()
    rubric = Rubric(name="edits", task="image-editing", criteria=(Criterion(text="Keeps the rest."),))
    type(judge).rubrics = property(lambda self: [rubric])
    try:
        with pytest.raises(ValueError, match="rubric edits is for image editing"):
            TournamentJudge(judge).check_first_row([{"prompt": "a"}])
    finally:
        del type(judge).rubrics
