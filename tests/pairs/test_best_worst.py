"""The best against the worst, by any judge."""

import io

import pytest
from PIL import Image
from scripted_judge import place_of
from stub_painter import StubPainter

from arr_trl.judges import JudgeReward, JudgeStats, TournamentJudge, Verdict
from arr_trl.judges.aggregate import best, mean_ranks
from arr_trl.pairs import BestWorst, BestWorstConfig, PairsError
from arr_trl.pairs.outcome import dropped_by_reason
from arr_trl.pairs.painter import seed_of
from arr_trl.pairs.rows import best_worst_row


class Worth(JudgeReward):
    """Ranks pictures by `worth[prompt][number of the picture]`; `pairs` may say otherwise of two."""

    def __init__(self, worth, pairs=None):
        super().__init__(None, 1)
        self.worth, self.pairs = worth, pairs or {}
        self.rows = []

    def check(self):
        pass

    def _compare(self, rows):
        self.rows += rows
        return [self._verdict(row) for row in rows], JudgeStats()

    def _verdict(self, row):
        worth = [self.worth[row.prompt][place_of(image)] for image in row.images]
        if len(row.images) == 2 and row.prompt in self.pairs:
            return self.pairs[row.prompt]
        if None in worth:
            return Verdict(failure="it said nothing.", candidates=len(worth))
        ranks = mean_ranks(worth)
        return Verdict(winner=best(ranks), ranks=ranks, candidates=len(worth), consistent=True)


def make(folder, worth, pairs=None, tournament=False, **settings):
    seeds = {seed_of(0, k, prompt, None): k for prompt in worth for k in range(len(worth[prompt]))}
    painter = StubPainter(folder, lambda prompt, source, seed: Image.new("RGB", (8, 8), (seeds[seed], 0, 0)))
    judge = Worth(worth, pairs)
    config = BestWorstConfig(**{"num_candidates": 4, "max_failure_rate": 1.0} | settings)
    maker = BestWorst(painter, TournamentJudge(judge) if tournament else judge, config)
    outcomes = [outcome for block in maker.write([{"prompt": prompt} for prompt in worth]) for outcome in block]
    return maker, judge, outcomes


def numbers(row):
    return [place_of(Image.open(io.BytesIO(row[name]["bytes"]))) for name in ("chosen", "rejected")]


@pytest.mark.parametrize("tournament", [False, True])
def test_the_best_is_chosen_and_the_worst_rejected_with_the_noise_of_each(tmp_path, tournament):
    maker, _, outcomes = make(tmp_path, {"a": [1, 9, 3, 0], "b": [2, 0, 8, 5]}, tournament=tournament)
    rows = [best_worst_row(outcome, maker.judge, maker.painter) for outcome in outcomes]
    assert [numbers(row) for row in rows] == [[1, 3], [2, 1]]
    assert rows[0]["chosen_noise"] == [seed_of(0, 1, "a", None), 0]
    assert rows[0]["rejected_noise"] == [seed_of(0, 3, "a", None), 0]


def test_of_level_candidates_the_first_is_the_best_and_the_last_the_worst(tmp_path):
    maker, _, (outcome,) = make(tmp_path, {"a": [9, 9, 0, 0]})
    assert numbers(best_worst_row(outcome, maker.judge, maker.painter)) == [0, 3]


def test_the_pair_itself_decides_and_what_it_does_not_decide_is_dropped(tmp_path):
    worth = {name: [9, 5, 5, 0] for name in "abcde"} | {"f": [5, 5, 5, 5], "g": [1, None, 3, 4]}
    said = {
        "a": Verdict(winner=1, ranks=(2, 1)),
        "b": Verdict(ranks=(1.5, 1.5), consistent=False),
        "c": Verdict(ranks=(1.5, 1.5), consistent=True),
        "d": Verdict(failure="It is down."),
    }
    _, _, outcomes = make(tmp_path, worth, said)
    assert [outcome.prompt for outcome in outcomes if outcome.made] == ["e"]
    assert [outcome.reason for outcome in outcomes] == [
        "the worst is better than the best", "orders disagree", "tie", "no verdict", None, "all candidates are level",
        "no verdict",
    ]  # fmt: skip
    assert sum(dropped_by_reason(outcomes).values()) == 6


def test_a_candidate_of_which_nothing_is_known_is_neither_best_nor_worst(tmp_path):
    class Half(Worth):
        def _verdict(self, row):
            if any(place_of(image) == 0 for image in row.images):
                return Verdict(failure="It cannot be seen.")
            return super()._verdict(row)

    maker, _, _ = make(tmp_path, {"z": [0, 0, 0, 0]})
    maker.pair_judge = Half({"a": [99, 2, 3, 1]})
    maker.judge = TournamentJudge(maker.pair_judge, max_failure_rate=None)
    seeds = {seed_of(0, k, "a", None): k for k in range(4)}
    maker.painter.make = lambda prompt, source, seed: Image.new("RGB", (8, 8), (seeds[seed], 0, 0))
    ((outcome,),) = maker.write([{"prompt": "a"}])
    assert numbers(best_worst_row(outcome, maker.judge, maker.painter)) == [2, 3]


def test_the_judge_gets_the_columns_of_the_prompt_both_times(tmp_path):
    maker, judge, _ = make(tmp_path, {"a": [1, 9, 3, 0]})
    judge.rows.clear()
    list(maker.write([{"prompt": "a", "requirement": "It is a photograph."}]))
    assert [row.columns["requirement"] for row in judge.rows] == ["It is a photograph."] * 2


def test_rows_that_differ_in_their_masks_are_rows_of_their_own_and_keep_them(tmp_path):
    source = Image.new("RGB", (8, 8), "gray")
    rows = [
        {"prompt": "a", "source_image": source, "mask_image": Image.new("L", (8, 8), level)} for level in (0, 255, 255)
    ]
    seeds = {seed_of(0, k, "a", source): k for k in range(2)}
    drawn = StubPainter(
        tmp_path, lambda prompt, source, seed: Image.new("RGB", (8, 8), (seeds[seed], 0, 0)), editing=True
    )
    judge = Worth({"a": [1, 2]})
    maker = BestWorst(drawn, judge, BestWorstConfig(num_candidates=2))
    (outcomes,) = maker.write(rows)
    assert [row.mask.getpixel((0, 0))[0] for row in judge.rows[:2]] == [0, 255]
    masks = [best_worst_row(outcome, judge, drawn)["mask_image"]["bytes"] for outcome in outcomes]
    assert [Image.open(io.BytesIO(mask)).getpixel((0, 0))[0] for mask in masks] == [0, 255]


def test_a_judge_that_does_not_answer_stops_the_run(tmp_path):
    with pytest.raises(PairsError, match="2 of 2 questions got no answer in the stage 'compare'"):
        make(tmp_path, {"a": [None] * 4, "b": [None] * 4}, max_failure_rate=0.5)


def test_one_candidate_makes_no_pair():
    with pytest.raises(ValueError, match="num_candidates=1 makes no pair"):
        BestWorstConfig(num_candidates=1)
