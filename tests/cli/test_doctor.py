"""`arr-trl doctor`: all that is wrong with a run at once, what the judge replies, what it costs, and nothing loaded."""

import pytest
from openai_server import Answer, OpenAIServer

from arr_trl.cli.doctor import command_for
from arr_trl.cli.init import write_project
from arr_trl.cli.main import main
from arr_trl.trainer import fit


@pytest.fixture
def project(tmp_path, monkeypatch):
    write_project(tmp_path, "rpo", "tiny_scenes_rpo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sound_run_is_told_what_it_asks_and_takes(project, capsys):
    assert main(["doctor", "--config", "train.yaml", "--per_device_train_batch_size", "8"]) == 0
    shown = capsys.readouterr().out
    assert "arr-trl rpo, tiny_scenes" in shown
    assert "model: FluxPipeline, 32 × 32 pixels" in shown
    assert "prompts: 96 rows with prompt; 16 to evaluate on" in shown
    assert "rubric tiny-scenes, 4 criteria" in shown
    assert "asked about two flat pictures, tiny_scenes answered (1 request, " in shown
    assert '"ranks": [1, 1]' in shown  # the reply
    # 4 pairs, asked in both orders
    assert "8 questions to the judge, 2,000 in 250 steps" in shown
    assert "passes of the transformer" in shown
    assert "memory: counted, " in shown
    assert "Nothing is missing." in shown
    assert {path.name for path in project.iterdir()} <= {
        "train.yaml",
        "rubric.json",
        "prompts",
        "README.md",
        "adapter",
    }


def test_everything_that_is_wrong_is_told_at_once(project, capsys, monkeypatch):
    (project / "prompts" / "train.txt").write_text("a red circle left of a blue square\n")
    monkeypatch.setattr(fit, "card", lambda: ("A small card", 10**6))
    with OpenAIServer(respond=lambda number, body: Answer("I like the first one.")) as server:
        judge = ["--judge_model", "judge", "--base_url", server.url]
        assert main(["doctor", "rpo", "--config", "train.yaml", *judge, "--width", "64"]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  !!")]
    assert len(told) == 3
    assert "model: width=64: the models of TinyScenes draw" in told[0]
    assert "prompts: train_dataset has 1 prompts, and one rollout takes 64" in told[1]
    assert "judge: asked about two flat pictures, judge gave no verdict" in told[2]
    assert main(["doctor", "rpo", "--config", "train.yaml", "--per_device_train_batch_size", "2"]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  !!")]
    assert [line.split(": A")[0] for line in told] == ["  !!  memory"]
    assert "A small card has 0.0 GB" in told[0]
    assert main(["doctor", "--config", "train.yaml", "--rubric", "no.json"]) == 1
    assert "!!  rewards: There is no rubric file at no.json" in capsys.readouterr().out


def test_reply_that_cannot_be_read_is_shown(project, capsys):
    with OpenAIServer(respond=lambda number, body: Answer("I like the first one.")) as server:
        judge = ["--judge_model", "judge", "--base_url", server.url]
        assert main(["doctor", "--config", "train.yaml", *judge, "--per_device_train_batch_size", "8"]) == 1
    assert "judge gave no verdict (2 requests, " in (shown := capsys.readouterr().out)
    assert "I like the first one." in shown


def test_command_is_the_first_that_knows_every_setting(tmp_path):
    for name, command in {
        "rpo_flux": "rpo", "grpo_flux": "grpo", "nft_sd3": "nft", "align_prop_flux": "align-prop", "dpo_flux_pickapic": "dpo",
    }.items():  # fmt: skip
        assert command_for(["--config", name]).name == command
    (tmp_path / "odd.yaml").write_text("scale_rewards: group\nbackprop_steps: 2\n")
    with pytest.raises(ValueError, match="No command that trains knows all of these settings; name"):
        command_for(["--config", str(tmp_path / "odd.yaml")])
