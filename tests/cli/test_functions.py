"""How functions and scorers are named on the command line."""

import pytest

from arr_trl.cli.functions import import_functions
from arr_trl.rewards import HPSv3, PickScore


def test_a_scorer_is_named_shortly_or_by_its_class_and_reads_no_weights_yet():
    pickscore, hpsv3 = import_functions(["pickscore", "arr_trl.rewards.HPSv3"])
    assert isinstance(pickscore, PickScore)
    assert isinstance(hpsv3, HPSv3)


@pytest.mark.parametrize("path", ["picscore", "functools.partial"])
def test_what_cannot_be_made_is_told_with_the_names_there_are(path):
    with pytest.raises(ValueError, match=f"'{path}' cannot be imported.*aesthetic, clipscore, hpsv3, pickscore"):
        import_functions([path])
