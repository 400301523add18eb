"""The figures of an evaluation, as a terminal shows them."""

import io
from dataclasses import replace

from made_up_evaluation import made_up
from rich.console import Console

from arr_trl.evaluation import print_evaluation


def test_a_rate_and_its_interval_stand_on_one_line_of_a_narrow_terminal(tmp_path):
    evaluation, _, _ = made_up(tmp_path, prompts=60)
    (found,) = evaluation.comparisons
    evaluation = replace(evaluation, comparisons=[{**found, "models": ["base", "ARR-FLUX.1-dev"]}])
    console = Console(width=80, file=io.StringIO())
    print_evaluation(evaluation, console)
    low, high = (f"{100 * bound:.1f}" for bound in found["win_rate_ci"])
    assert f"[{low}, {high}]" in console.file.getvalue()
