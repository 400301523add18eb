"""Networks this small compute with one thread, unless somebody says otherwise."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from arr_trl.tiny_scenes import how_long, pretrain, pretrain_edit, threads, use_one_thread


@pytest.fixture(autouse=True)
def same_number_of_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_one_thread_unless_the_environment_says_how_many(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    use_one_thread()
    assert torch.get_num_threads() == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_one_thread()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("argv", [
    pytest.param(["rpo", "--model_name_or_path", "tiny_scenes"], marks=pytest.mark.slow),
    pytest.param(["rpo", "--model_name_or_path", "tiny_scenes_edit"], marks=pytest.mark.slow),  # processes, each of seconds
    pytest.param(["evaluate", "--model", "tiny_scenes"], marks=pytest.mark.slow),
])  # fmt: skip
def test_commands_on_tiny_scenes_compute_with_one_thread_and_others_as_the_user_has_it(tmp_path, argv):
    def threads_after(*commands):
        code = (
            "import json, sys, torch; from arr_trl.cli.main import main\n"
            "for argv in json.loads(sys.argv[1]):\n"
            "  torch.set_num_threads(3)\n"
            "  try:\n   main(argv)\n  except SystemExit as stopped:\n   assert stopped.code == 2\n"
            "  print('threads', torch.get_num_threads())"
        )
        environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        command = [sys.executable, "-c", code, json.dumps(commands)]
        shown = subprocess.run(command, capture_output=True, text=True, env=environment)
        return [int(number) for number in re.findall(r"^threads (\d+)$", shown.stdout, re.MULTILINE)]

    # which is refused after the model is known and before anything is loaded
    rest = {
        "rpo": ["--dataset_name", "no-such.jsonl", "--output_dir", str(tmp_path), "--use_cpu", "true"],
        "evaluate": ["--dataset", "no-such.jsonl", "--output", str(tmp_path)],
    }[argv[0]]
    assert threads_after([*argv[:-1], str(tmp_path), *rest], [*argv, *rest]) == [3, 1]


@pytest.mark.parametrize("script", [pretrain, pretrain_edit])
def test_pretraining_computes_with_one_thread(script, monkeypatch, tmp_path):
    def begun():
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "use_one_thread", begun)
    monkeypatch.setattr("sys.argv", ["pretrain", "--output", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        script.main()


def test_how_long_it_takes_is_said_by_steps():
    assert "about 1 s on a free core, about 4 min for 250 steps" in how_long(1024, 250)
    assert "about 0.4 s on a free core, about 3 min for 500 steps" in how_long(384, 500)
    assert "about 2 s on a free core, about 5 min for 150 steps" in how_long(1024, 150, edits=True)
    assert "about 4 s for 4 steps" in how_long(1024, 4)
    assert "for" not in how_long(1024, -1)
    assert threads.how_long(1, 1).startswith(f"With {torch.get_num_threads()} thread")
