"""A newcomer with an empty folder types what docs/source/first_adapter.md says, and nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

from hub_server import HubServer
from huggingface_hub import ModelCard
from openai_server import OpenAIServer

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
