"""
Tiny real pipelines, built once per worker, with random weights: what is tested is never how well they draw. And a small
disk.
"""

import copy
import gc
import shutil
import subprocess

import pytest
from hub_client import HubClient
from hub_server import HubServer

from arr_trl.tiny_scenes import build_pipeline


def pytest_collection_finish():
    # Trainer collects garbage at the end of each training, a third of what a short one costs: over a million objects of
    # the modules that the tests import, none of which is ever garbage.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _flux_pipeline():
    return build_pipeline(seed=0)


@pytest.fixture
def flux_pipeline(_flux_pipeline):
    """A `FluxPipeline` with random weights that a test may change."""
    return copy.deepcopy(_flux_pipeline)


@pytest.fixture
def saved_flux_pipeline(flux_pipeline, tmp_path):
    """Folder of a saved `FluxPipeline` with random weights."""
    flux_pipeline.save_pretrained(tmp_path / "tiny-flux")
    return tmp_path / "tiny-flux"


@pytest.fixture(scope="module")
def own_extensions(tmp_path_factory):
    """Where DeepSpeed compiles: in torch's cache a compiler that was killed leaves a lock, for which later runs wait forever."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path_factory.mktemp("extensions")))
        yield


@pytest.fixture
def disk(tmp_path):
    """A file system of 12 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no `mount` here")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def hub():
    with HubServer() as hub:
        yield hub


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    client = HubClient(hub, tmp_path_factory.mktemp("home"))
    yield client
    client.close()
