import io

from rich.console import Console

from arr_trl.autorubric import AutoRubric, AutoRubricConfig
from arr_trl.autorubric.progress import RunProgress, planned_questions
from arr_trl.judges import RubricJudge
from arr_trl.tiny_scenes import TinyScenesJudge, preferences


def run(screen, terminal, **prices):
    pairs, config = preferences(12), AutoRubricConfig(holdout=0.5)
    planned = planned_questions(6, 6, config)
    console = Console(file=screen, force_terminal=terminal, width=120)
    with RunProgress(planned, console=console, **prices) as progress:
        model = progress.watch(TinyScenesJudge())
        AutoRubric(model, RubricJudge("auto", model), config, on_stage=progress.stage).write(pairs, name="r")
    return progress, planned


def test_every_reply_is_counted_and_the_plan_holds():
    progress, planned = run(io.StringIO(), terminal=False, price_in=1e6, price_out=0.0)
    least, most = (sum(counts[i] for counts in planned.values()) for i in (0, 1))
    assert least <= progress.cost["requests"] <= most
    assert progress.cost["cost"] == progress.cost["prompt_tokens"] > 0


def test_without_a_terminal_each_stage_is_a_line_with_rate_cost_and_what_remains():
    screen = io.StringIO()
    run(screen, terminal=False, price_in=1.0, price_out=1.0)
    lines = screen.getvalue().splitlines()
    assert lines[0] == "generate: 6 questions, then about 49"
    assert lines[1].startswith("verify 1: 12 questions, then about 37 (")
    assert "/s, 0.00 spent)" in lines[1]
    assert lines[-1].startswith("hold-out: 24 questions, then about 0")


def test_on_a_terminal_a_line_moves():
    screen = io.StringIO()
    progress, _ = run(screen, terminal=True)
    assert "whole run" in screen.getvalue()
    assert "cost" not in progress.cost  # without prices there is none
