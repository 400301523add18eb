"""Every family, sharded over two processes by FSDP2, trains what one process trains on the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families_on_fsdp2 import FAMILIES, train
from safetensors.torch import load_file

from arr_trl.shipped import examples


PORT = str(29500 + os.getpid() % 90)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sharded(request, tmp_path_factory):
    """The folder of what two processes trained of all families that are asked for."""
    asked = [
        item.callspec.params["name"]
        for item in request.session.items
        if "[" in item.name and item.path == request.path
    ]
    folder = tmp_path_factory.mktemp("sharded")
    launch = ["-m", "accelerate.commands.launch", "--num_processes", "2", "--main_process_port", PORT]
    launch += ["--config_file", str(examples() / "accelerate_configs" / "fsdp2.yaml")]
    script = Path(__file__).with_name("families_on_fsdp2.py")
    run = subprocess.run(
        [sys.executable, *launch, str(script), str(folder), *asked],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return folder


def adapter_of(folder):
    (file,) = folder.glob("*/adapter_model.safetensors")
    return load_file(file)


@pytest.mark.parametrize("name", FAMILIES)
def test_two_sharded_processes_train_what_one_does(sharded, name, tmp_path):
    train(name, tmp_path, 8)
    expected, found = adapter_of(tmp_path), adapter_of(sharded / name)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-6, rtol=1e-5)
