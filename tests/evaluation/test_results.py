import io
import json

import pytest
from rich.console import Console

from arr_trl.evaluation import EvaluationResults, SuccessRates, print_table, success_rates


RESULTS = EvaluationResults(
    base_model="base",
    adapter="ARR",
    prompts=200,
    base=SuccessRates(success_all=0.3, success={"colors": 0.8, "shapes": 0.35}),
    trained=SuccessRates(success_all=0.65, success={"colors": 0.95, "shapes": 0.7}),
    win_rate=0.61,
    win_rate_ci=(0.54, 0.67),
    tie_rate=0.1,
    order_consistency=0.93,
    judge_calls=1000,
    transformer_forwards=20000,
    train_seconds=312.5,
)


def printed(results):
    stream = io.StringIO()
    print_table(results, Console(file=stream, width=120))
    return stream.getvalue()


def test_results_come_back_as_they_were_written(tmp_path):
    RESULTS.save(tmp_path / "out" / "results.json")
    assert EvaluationResults.load(tmp_path / "out" / "results.json") == RESULTS
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["results.json"]


def test_results_without_a_truth_function_come_back_too(tmp_path):
    results = EvaluationResults(base_model="base", adapter="ARR", prompts=4)
    results.save(tmp_path / "results.json")
    assert EvaluationResults.load(tmp_path / "results.json") == results


def test_json_has_the_documented_keys(tmp_path):
    RESULTS.save(tmp_path / "results.json")
    data = json.loads((tmp_path / "results.json").read_text())
    for key in ("base_model", "adapter", "prompts", "win_rate", "tie_rate", "order_consistency", "judge_calls"):
        assert key in data
    assert data["transformer_forwards"] == 20000
    assert data["train_seconds"] == 312.5
    assert data["trained"] == {"success_all": 0.65, "success": {"colors": 0.95, "shapes": 0.7}}
    assert data["win_rate_ci"] == [0.54, 0.67]


@pytest.mark.parametrize("text", ["not json", "[1]", '{"base_model": "b"}', '{"wins": 1}'])
def test_file_that_holds_no_results_is_named(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results\.json"):
        EvaluationResults.load(tmp_path / "results.json")


def test_table_shows_percent_difference_in_points_and_the_interval():
    text = printed(RESULTS)
    assert "all criteria" in text
    assert "30.0%" in text
    assert "+35.0 points" in text
    assert "61.0% [54.0, 67.0]" in text
    assert "93.0%" in text


def test_table_leaves_out_what_was_not_measured():
    text = printed(EvaluationResults(base_model="b", adapter="a", prompts=3, win_rate=0.5))
    assert "50.0%" in text
    assert "ties" not in text
    assert "criterion" not in text


def test_success_is_counted_per_criterion_and_for_all_at_once():
    rates = success_rates([{"a": True, "b": True}, {"a": True, "b": False}, {"b": True, "a": False}])
    assert rates.success == pytest.approx({"a": 2 / 3, "b": 2 / 3})
    assert rates.success_all == pytest.approx(1 / 3)


def test_pictures_with_different_criteria_are_refused():
    with pytest.raises(ValueError, match="Picture 1 has"):
        success_rates([{"a": True}, {"b": True}])
