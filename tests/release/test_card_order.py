"""A card tells what a reader asks, in the order in which it is asked."""

import dataclasses
import re

import pytest
from test_model_card import CARD, EDIT, RESULTS

from arr_trl.evaluation import SuccessRates
from arr_trl.release import record_results, write_model_card


def lead(readme: str) -> str:
    """What stands before the sentence that names the base."""
    return re.search(r"^## ARR-\S+\n\n(.*?)^A LoRA adapter for", readme, re.MULTILINE | re.DOTALL)[1].strip()


def test_what_it_is_better_at_comes_first_and_settings_are_folded(tmp_path):
    readme = write_model_card(tmp_path, CARD).read_text()
    places = [readme.index(f"\n### {name}\n") for name in ("Samples", "Evaluation", "Judge and rubric", "How to use")]
    folded = readme.index("<details>")
    assert readme.index(lead(readme)) < places[0]
    assert [*places, folded] == sorted([*places, folded])
    for inside in ("attn.to_q\n", "| `learning_rate` |", "#### Learning curve", "#### Versions"):
        assert folded < readme.index(inside) < readme.index("</details>")


def test_settings_without_a_value_have_no_row(tmp_path):
    readme = write_model_card(tmp_path, CARD).read_text()
    assert "| `beta` | 0.01 |" in readme
    assert "reward_weights" not in readme
    assert "None |" not in readme


@pytest.mark.parametrize(("interval", "begins"), [
    ((0.54, 0.68), "**Better than its base** on 200 held-out prompts."),
    ((0.45, 0.68), "**No difference from its base is shown** by 200 held-out prompts."),
    ((0.30, 0.45), "**Worse than its base** on 200 held-out prompts."),
])  # fmt: skip
def test_it_is_called_better_only_where_the_interval_says_so(tmp_path, interval, begins):
    results = dataclasses.replace(RESULTS, win_rate_ci=interval)
    assert lead(write_model_card(tmp_path, dataclasses.replace(CARD, results=results)).read_text()).startswith(begins)


def test_criteria_are_named_where_their_intervals_are_apart(tmp_path):
    base = SuccessRates(0.31, {"colors": 0.82, "shapes": 0.50, "count": 0.97})
    trained = SuccessRates(0.66, {"colors": 0.95, "shapes": 0.52, "count": 0.80})
    card = dataclasses.replace(CARD, results=dataclasses.replace(RESULTS, base=base, trained=trained))
    said = lead(write_model_card(tmp_path, card).read_text()).splitlines()
    assert (
        said[1] == "More of its pictures than of the base's meet colors (82.0% → 95.0%), all criteria (31.0% → 66.0%)."
    )
    assert said[2] == "Fewer meet count (97.0% → 80.0%)."


def test_nothing_is_claimed_of_what_was_not_measured(tmp_path):
    assert lead(write_model_card(tmp_path, EDIT).read_text()) == ""


@pytest.mark.parametrize("former", [CARD, dataclasses.replace(CARD, results=None)], ids=["measured", "not measured"])
def test_another_evaluation_changes_what_the_card_begins_with(tmp_path, former):
    write_model_card(tmp_path, former)
    worse = dataclasses.replace(RESULTS, win_rate=0.4, win_rate_ci=(0.33, 0.47), base=None, trained=None)
    assert record_results(tmp_path, "ARR-FLUX.1-dev", worse)
    readme = (tmp_path / "README.md").read_text()
    assert lead(readme) == (
        "**Worse than its base** on 200 held-out prompts. Judge: win rate 40.0% [33.0%, 47.0%], a tie counting one half."
    )
    assert readme.count("A LoRA adapter for") == 1
    assert "61.3%" not in readme
