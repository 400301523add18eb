import io
import json
import random

import numpy as np
import pytest
from rich.console import Console

from arr_trl.data.preferences import Preference
from arr_trl.evaluation.judge_eval import (
    JudgeEvaluation,
    JudgeOutcome,
    evaluate_judge,
    mcnemar,
    measures,
    print_summary,
    save_summary,
)
from arr_trl.judges import RubricJudge
from arr_trl.tiny_scenes.judge import TinyScenesJudge, zero_shot_rubric
from arr_trl.tiny_scenes.scenes import Caption, captions, render


def labelled_pairs(count):
    """A right and a wrong picture, the right one first in every other pair."""
    names = captions("train")
    pairs = []
    for i in range(count):
        text, other = names[i % 480], names[(i * 7 + 100) % 480]
        images = [render(Caption.parse(t), np.random.default_rng(i)) for t in (text, other)]
        pairs.append(Preference(text, tuple(images[:: 1 if i % 2 == 0 else -1]), winner=i % 2, category=f"c{i % 3}"))
    return pairs


def judge(**settings):
    return RubricJudge(rubric=zero_shot_rubric(), model=TinyScenesJudge(**settings), order="fixed")


def test_a_judge_without_faults_is_right_both_ways():
    summary = evaluate_judge(judge(), labelled_pairs(60)).summary()
    assert summary["pairs"] == 60
    assert summary["accuracy_consistent"] > 0.95
    assert summary["position_bias"] == 0
    assert summary["order_consistency"] == 1
    assert summary["invalid_rate"] == 0
    assert summary["calls"] == 120
    assert {name: c["pairs"] for name, c in summary["categories"].items()} == {"c0": 20, "c1": 20, "c2": 20}


def test_position_bias_is_measured_as_what_it_is():
    summary = evaluate_judge(judge(position_bias=0.3, noise=0.1), labelled_pairs(300)).summary()
    # three in ten answers are for the first image whatever it shows; of the others, half are
    assert summary["position_bias"] == pytest.approx(0.15, abs=0.04)
    low, high = summary["position_bias_ci"]
    assert low < 0.15 < high
    assert summary["accuracy_consistent"] < summary["accuracy_forward"]


def test_failures_and_ties_are_counted_and_never_right():
    pairs = labelled_pairs(40)
    same = [Preference(p.prompt, (p.images[0],) * 2, winner=0) for p in pairs]
    assert evaluate_judge(judge(), same).summary()["tie_rate"] == 1
    summary = evaluate_judge(judge(failure_rate=1.0), pairs).summary()
    assert summary["invalid_rate"] == 1
    assert summary["accuracy_forward"] == 0
    assert summary["position_bias"] is None
    assert summary["position_bias_ci"] is None


def test_rows_that_cannot_be_used_are_counted_not_fatal():
    evaluation = evaluate_judge(judge(), ["Row 0: broken", *labelled_pairs(3), "Row 4: broken"], limit=3)
    assert evaluation.summary()["pairs"] == 3
    assert evaluation.skipped == ["Row 0: broken"]
    with pytest.raises(ValueError, match=r"no labelled pairs.*Row 0: broken"):
        evaluate_judge(judge(), ["Row 0: broken"]).summary()


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        right = rng.random(100) < 0.7
        outcomes = [JudgeOutcome(bool(r), True, 0, 0, 0, 0) for r in right]
        low, high = measures(outcomes)["accuracy_forward_ci"]
        inside += low <= 0.7 <= high
    assert inside >= 52


def test_mcnemar_is_the_exact_binomial_test():
    one, other = [True] * 8 + [False] * 1 + [True] * 5, [False] * 8 + [True] * 1 + [True] * 5
    # two-sided binomial with 1 of 9: 2 * (1 + 9) / 512
    assert mcnemar(one, other) == {"only_first": 8, "only_second": 1, "p_value": pytest.approx(20 / 512)}
    assert mcnemar([True], [True])["p_value"] == 1


def test_cost_needs_both_prices():
    evaluation = evaluate_judge(judge(), labelled_pairs(2))
    summary = evaluation.summary(price_in=1e6, price_out=0.0)
    assert summary["cost"] == evaluation.stats.prompt_tokens > 0
    assert "cost" not in evaluation.summary(price_in=1.0)


def test_the_summary_is_printed_and_written(tmp_path):
    summary = evaluate_judge(judge(), labelled_pairs(6)).summary()
    screen = io.StringIO()
    print_summary({"judge": summary, "other": summary}, Console(file=screen, width=120))
    assert "accuracy_consistent" in screen.getvalue()
    assert "100.0% [61.0, 100.0]" in screen.getvalue()
    assert "[100.0, 100.0]" not in screen.getvalue()
    assert "c2" in screen.getvalue()
    save_summary(summary, tmp_path / "new" / "eval.json")
    assert json.loads((tmp_path / "new" / "eval.json").read_text())["pairs"] == 6


def test_a_figure_that_the_first_judge_lacks_is_shown_of_the_second():
    summary = evaluate_judge(judge(), labelled_pairs(2)).summary()
    screen = io.StringIO()
    print_summary({"judge": {**summary, "latency_s": None}, "other": summary}, Console(file=screen, width=120))
    (row,) = [line for line in screen.getvalue().splitlines() if "latency_s" in line]
    assert row.split() == ["│", "latency_s", "│", "–", "│", "0.00", "│"]


def test_nothing_measured_is_none():
    assert JudgeEvaluation([JudgeOutcome(None, None, 0, 0, 0, 2)]).summary()["order_consistency"] is None


SHARES = (
    "accuracy_forward",
    "accuracy_reversed",
    "accuracy_consistent",
    "order_consistency",
    "tie_rate",
    "invalid_rate",
)


def outcome(forward, reversed_, first=1, decisive=2, ties=0, invalid=0):
    return JudgeOutcome(forward, reversed_, first, decisive, ties, invalid)


def test_pairs_without_a_verdict_do_not_agree_with_themselves():
    agreeing, disagreeing = [outcome(True, True)] * 5, [outcome(True, False, first=2)] * 5
    unanswered = [outcome(None, None, first=0, decisive=0, invalid=2)] * 10
    found = measures(agreeing + disagreeing + unanswered)
    assert found["order_consistency"] == 0.5
    assert found["order_consistency_ci"][1] <= 1


def random_outcome(generator):
    answers = [generator.choice([True, False, None, "invalid"]) for _ in range(2)]
    named = [None if answer == "invalid" else answer for answer in answers]
    decisive = sum(answer is not None for answer in named)
    return outcome(*named, generator.randint(0, decisive), decisive, answers.count(None), answers.count("invalid"))


def test_every_share_lies_between_nothing_and_all():
    generator = random.Random(0)
    for _ in range(100):
        found = measures([random_outcome(generator) for _ in range(generator.randint(1, 12))])
        for name in SHARES:
            if found[name] is not None:
                assert 0 <= found[f"{name}_ci"][0] <= found[f"{name}_ci"][1] <= 1
                assert 0 <= found[name] <= 1
        if found["position_bias"] is not None:
            assert -0.5 <= found["position_bias"] <= 0.5


def test_a_share_grows_with_what_it_measures():
    some = [outcome(True, False, first=2), outcome(False, False), outcome(None, True, 0, 1, ties=1)]
    for name, more in (
        ("accuracy_forward", outcome(True, False, first=2)),
        ("accuracy_reversed", outcome(False, True, first=0)),
        ("accuracy_consistent", outcome(True, True)),
        ("order_consistency", outcome(False, False)),
        ("tie_rate", outcome(None, None, 0, 0, ties=2)),
        ("invalid_rate", outcome(None, None, 0, 0, invalid=2)),
        ("position_bias", outcome(True, False, first=2)),
    ):
        assert measures([*some, more])[name] > measures(some)[name], name
