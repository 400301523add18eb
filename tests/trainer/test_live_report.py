"""The report of a run that goes on is that of its last evaluation."""

import json
import math
from dataclasses import asdict

import pytest
from test_health import config

from arr_trl import RPOTrainer
from arr_trl.evaluation import write_report
from arr_trl.tiny_scenes import BASE_MODEL, prompts
from arr_trl.trainer import live_report
from arr_trl.trainer.live_report import _pairs


ADAPTER = "ARR-tiny-flux"


def says_who_is_trained(prompts, completions, trainer_state, log_extra, **columns):
    """In an evaluation the trained one is worth more after the second step, and less after the first."""
    log_extra("judge_reason", [f"after step {trainer_state.global_step}"] * len(completions))
    return [float((i % 2 == 1) == (trainer_state.global_step > 1)) for i in range(len(completions))]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run's folder, and for each evaluation its report's pairs, logged win rates and text."""
    folder, reports = tmp_path_factory.mktemp("run"), []

    def written(output, evaluation, pairs, rows):
        path = write_report(output, evaluation, pairs, rows)
        history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        rates = {entry["step"]: entry["eval_win_rate"] for entry in history if "eval_win_rate" in entry}
        reports.append((pairs, rates, path.read_text(encoding="utf-8")))

    trainer = RPOTrainer(
        model=str(BASE_MODEL),
        reward_funcs=says_who_is_trained,
        args=config(folder, max_steps=2, per_device_train_batch_size=4, eval_strategy="steps", eval_steps=1),
        train_dataset=prompts("train[:8]"),
        eval_dataset=prompts("test[:2]"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_report, "write_report", written)
        trainer.train()
    return folder, reports


def test_each_evaluation_writes_the_report_with_its_pairs_reasons_and_the_curves_so_far(run):
    folder, (first, second) = run
    for number, (pairs, _, page) in enumerate((first, second)):
        assert [pair.models for pair in pairs] == [("base", ADAPTER)] * 2
        assert [(pair.winner, pair.reason) for pair in pairs] == [(number, f"after step {number + 1}")] * 2
        assert f"after step {number + 1}" in page
    assert (first[1], second[1]) == ({1: 0.0}, {1: 0.0, 2: 1.0})
    assert (folder / "report.html").read_text(encoding="utf-8") == second[2]


def test_pictures_in_full_lie_beside_it(run):
    folder, _ = run
    names = {str(path.relative_to(folder)) for path in (folder / "images").rglob("*.png")}
    assert names == {f"images/{model}/0000{prompt}-0.png" for model in ("base", ADAPTER) for prompt in (0, 1)}


def test_who_won_is_what_the_win_rate_counts_and_a_failure_is_none():
    rewards = [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5), (math.nan, math.nan)]
    said = {
        "judge_reason": [reason for reason in ("nearer", "sharper", None, "The server is gone.") for _ in range(2)],
        "judge_margin": [margin for margin in (0.3, 0.4, 0.0, None) for _ in range(2)],
        "judge_consistent": [True] * 8,
    }
    found = [asdict(record) for record in _pairs([4, 5, 6, 7], ("base", "a"), rewards, said)]
    assert [tuple(f[name] for name in ("prompt", "winner", "failure", "margin", "reason")) for f in found] == [
        (4, 1, None, 0.3, "nearer"),
        (5, 0, None, -0.4, "sharper"),
        (6, None, None, 0.0, ""),
        (7, None, "The server is gone.", None, ""),
    ]
    both_judges = {"judge_reason": ["one"] * 16}
    assert {record.reason for record in _pairs([4, 5, 6, 7], ("base", "a"), rewards, both_judges)} == {""}
