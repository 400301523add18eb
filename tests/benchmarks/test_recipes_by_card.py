"""The table of recipes in docs/source/speed.md: what the command prints, and that each recipe fits its card by it."""

import ast
import re
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import recipes_by_card  # noqa: E402


SPEED = (ROOT / "docs/source/speed.md").read_text()
ROW = re.compile(r"^\| (\d+) GB \| (.*?) \|((?: [\d.]+ GB \|){5})$", re.MULTILINE)


def test_every_recipe_fits_its_card_by_the_table():
    rows = {(int(card), words): re.findall(r"[\d.]+", peaks) for card, words, peaks in ROW.findall(SPEED)}
    assert set(rows) == {(recipe.card_gb, recipe.words) for recipe in recipes_by_card.recipes()}
    for (card, words), peaks in rows.items():
        # the allocator, CUDA's context and kernels take up to 2 GB beside it
        assert max(map(float, peaks)) < card - 2, words


def test_what_is_counted_for_the_readme_is_what_it_shows():
    shown = re.search(r"args=(RPOConfig\(.*?\)),\n", (ROOT / "README.md").read_text())[1]
    (counted,) = (recipe.config for recipe in recipes_by_card.recipes() if recipe.words == "the README's Python")
    settings = {
        keyword.arg: ast.literal_eval(keyword.value) for keyword in ast.parse(shown, mode="eval").body.keywords
    }
    assert settings == {name: getattr(counted, name) for name in settings}
    assert counted.rollout_batch_size is None  # all pictures of a rollout at once


@pytest.mark.slow
def test_the_table_is_what_the_command_prints():
    for line in recipes_by_card.table():
        assert line in SPEED
