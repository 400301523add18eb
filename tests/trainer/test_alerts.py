"""Warnings reach the log once, and trackio where a run reports to it."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from arr_trl.trainer.alerts import warn_once
from arr_trl.trainer.watch import no_verdicts


FOUND = {"collapse": "the candidates are alike.", "kl": None}
ARGS = SimpleNamespace(report_to=["tensorboard", "trackio"])
AT_7 = SimpleNamespace(global_step=7)


@pytest.fixture
def alerts(monkeypatch):
    """What trackio's `alert` was called with; it prints, as trackio's own does."""
    trackio, alerts = ModuleType("trackio"), []
    trackio.AlertLevel = SimpleNamespace(WARN="warn")

    def alert(title, text=None, level="warn", webhook_url=None):
        print("[TRACKIO WARN]")
        alerts.append((title, text, level))

    trackio.alert = alert
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    return alerts


def test_a_warning_is_an_alert_of_trackio_and_is_told_once(alerts, caplog, capsys):
    already = {}
    for _ in range(2):
        warn_once(already, FOUND, ARGS, AT_7)
    assert alerts == [("collapse", "Step 7: the candidates are alike.", "warn")]
    assert already == {"collapse": "the candidates are alike."}
    assert caplog.messages == ["Step 7: the candidates are alike."]
    assert capsys.readouterr().out == ""  # it stands on the screen already


def test_a_run_that_does_not_report_to_trackio_needs_none(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "trackio", None)  # an import fails
    warn_once({}, FOUND, SimpleNamespace(report_to=["wandb"]), AT_7)
    assert caplog.messages == ["Step 7: the candidates are alike."]


@pytest.mark.slow  # trackio starts a server
def test_trackio_keeps_the_alert_with_its_run(tmp_path):
    pytest.importorskip("trackio")
    code = (
        "import trackio; from types import SimpleNamespace as N; from arr_trl.trainer.alerts import warn_once\n"
        "trackio.init(project='tracked', name='a-run')\n"
        "warn_once({}, {'collapse': 'the candidates are alike.'}, N(report_to=['trackio']), N(global_step=7))\n"
        "trackio.finish()"
    )
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.count("the candidates are alike") + done.stderr.count("the candidates are alike") == 1
    with contextlib.closing(sqlite3.connect(tmp_path / "trackio" / "tracked.db")) as database:
        kept = database.execute("SELECT title, text, level FROM alerts").fetchall()
    assert kept == [("collapse", "Step 7: the candidates are alike.", "warn")]


def test_a_judge_that_often_has_no_verdict_is_told_of():
    assert no_verdicts([0.0, 0.1, 0.2, 0.3]) == (
        "the judge gave no verdict on 20% of the comparisons (`judge/failure_rate`), and nothing is learned from those. "
        "`arr-trl judge log` shows why: answers that are cut off need a higher `judge_max_tokens`, a server that is too slow a "
        "longer `judge_timeout_s`, and refusals another model."
    )
    assert no_verdicts([1.0, 1.0]) is None  # two logs are few
    assert no_verdicts([1.0] * 9 + [0.1, 0.1, 0.05]) is None
