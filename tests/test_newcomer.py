"""
Newcomers in an empty folder: one types what docs/source/first_adapter.md says and nothing else, one has labelled pairs and
wants a rubric, and one has a wheel and no clone.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from hub_server import HubServer
from huggingface_hub import ModelCard
from openai_server import OpenAIServer

from arr_trl.cli.main import main
from arr_trl.evaluation import Evaluation
from arr_trl.tiny_scenes import TinyScenesJudge


ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "source" / "first_adapter.md"


def test_from_an_empty_folder_to_the_hub(tmp_path):
    project, home = tmp_path / "project", tmp_path / "home"
    project.mkdir()
    home.mkdir()
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    with OpenAIServer(TinyScenesJudge()) as server, HubServer() as hub:
        script = "".join(blocks).replace("http://localhost:8000/v1", server.url)
        environment = os.environ | hub.environment(home) | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=project, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        pushed = hub.model("user/my-adapter").files

    assert "8 prompts × 2 candidates" in done.stdout
    assert re.search(r"^step 4/4: evaluation: win rate ", done.stdout, re.MULTILINE)
    # neither remarks of libraries about themselves nor bars for every file
    assert not re.findall(r".*(?:torchvision|Failed to load|register_constant|FutureWarning|it/s|ba/s).*", done.stderr)
    evaluation = Evaluation.load(project / "evaluation" / "results.json")
    assert evaluation.comparisons[0]["pairs"] == 6
    report = (project / "evaluation" / "report.html").read_text()
    assert "a green square left of a red circle" in report
    assert "eval_win_rate" in report  # the learning curve of the run
    assert {"my-adapter/pytorch_lora_weights.safetensors", "samples/my-adapter.png", "README.md"} <= set(pushed)
    card = ModelCard(pushed["README.md"].decode())
    (result,) = [r for r in card.data.eval_results if r.metric_type == "win_rate"]
    assert result.metric_value == round(evaluation.comparisons[0]["win_rate"], 4)
    assert {body["model"] for body in server.requests} == {"my-judge"}


def test_from_labelled_pairs_to_a_rubric_that_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generate = "rubric generate --config rubric_tiny_scenes --limit 12 --output rubric.json"
    for command, said in (
        (f"{generate} --dry_run true", "--- request 1 to tiny_scenes ---"),
        (generate, "Wrote rubric.json, rubric.report.json and rubric.html."),
        ("rubric show rubric.json", "Both colors that the caption names appear"),
        ("rubric verify rubric.json --dataset tiny_scenes --judge_model tiny_scenes --limit 6", "for the winner"),
        (
            "judge eval --dataset tiny_scenes --judge_model tiny_scenes --rubric rubric.json --limit 6",
            "accuracy_consistent",
        ),
    ):
        assert main(shlex.split(command)) == 0
        assert said in capsys.readouterr().out
    assert "preferred" in (tmp_path / "rubric.html").read_text()
    assert (tmp_path / "judge_eval.html").is_file()


def test_without_a_clone_from_the_quickstart_to_what_would_be_pushed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = "--max_steps 1 --per_device_train_batch_size 16 --eval_dataset_split test[:3] --num_inference_steps 4"
    assert main(shlex.split(f"quickstart {short} --eval_num_inference_steps 2")) == 0
    said = capsys.readouterr().out
    assert re.search(r"^step 1/1: .*decided", said, re.MULTILINE)
    assert "The adapter is that of step 1 of 1." in said
    evaluate, push = re.findall(r"^  arr-trl (.*)$", said, re.MULTILINE)  # what it says is next
    assert main(shlex.split(f"{evaluate} --limit 2")) == 0
    said = capsys.readouterr().out
    assert "│ ARR-tiny-flux │ base" in said  # not cut where a terminal is narrow
    assert "prompts show no difference" in said or "than its base on" in said
    assert main([*shlex.split(push), "--dry_run"]) == 0
    assert "Nothing was sent to YOUR_NAME/quickstart." in capsys.readouterr().out
    for report in ("report.html", "evaluation/report.html"):
        assert "ARR-tiny-flux" in (tmp_path / "outputs" / "quickstart" / report).read_text()

    assert main(["init", "flux", "my-project"]) == 0
    capsys.readouterr()
    assert main(["doctor", "--config", "tiny_scenes_rpo"]) == 0
    assert "Nothing is missing." in capsys.readouterr().out
