"""A local judge beside a training that DeepSpeed partitions: two real processes, on a CPU over gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_vlm import build_vlm
from zero3_ranks import question

from arr_trl.chat.local import LocalChatModel


@pytest.mark.slow
@pytest.mark.usefixtures("own_extensions")
def test_it_answers_under_zero_3_as_it_does_without(tmp_path):
    build_vlm(tmp_path / "vlm")
    folder = str(tmp_path / "vlm")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = str(Path(__file__).with_name("zero3_ranks.py"))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, script, folder, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]

    model = LocalChatModel(folder)
    (reply,) = model.complete([question(max_tokens=4)])
    (choice,) = model.complete([question(choices=("1", "2"))])
    for rank in (0, 1):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert (found["processes"], found["zero3"]) == (2, True)
        assert set(found["partitioned"]) == {0}, "what is loaded beside it is partitioned"
        assert "is partitioned by DeepSpeed ZeRO-3" in found["refused"]
        assert found["texts"] == [reply.text] * (1 + 2 * rank)
        assert found["choice"] == pytest.approx(choice.choice_logprobs, abs=1e-6)
