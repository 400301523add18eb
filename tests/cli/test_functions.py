"""How functions and scorers are named on the command line."""

import pytest

from arr_trl.cli.functions import import_functions
from arr_trl.rewards import HPSv3, HTTPScorer, OCRScore, PickScore


def test_a_scorer_is_named_shortly_or_by_its_class_and_reads_no_weights_yet():
    named = import_functions(["pickscore", "arr_trl.rewards.HPSv3", "ocr", "http://localhost:8100/score"])
    assert [type(func) for func in named] == [PickScore, HPSv3, OCRScore, HTTPScorer]


@pytest.mark.parametrize("path", ["picscore", "functools.partial"])
def test_what_cannot_be_made_is_told_with_the_names_there_are(path):
    with pytest.raises(ValueError, match=f"'{path}' cannot be imported.*aesthetic, clipscore, hpsv3, ocr, pickscore"):
        import_functions([path])
