"""Names that lead nowhere are told at once, whether the network is there or not."""

import socket

import pytest
from huggingface_hub import constants

from arr_trl.data import check_source


@pytest.fixture
def online(monkeypatch, tmp_path):
    """A client that is not told to stay offline, with an empty cache and a Hub that nobody runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["/no/such/folder", "./flux", "models/flux/dev", "~/flux", "flux dev"])
def test_path_that_is_not_there_is_not_looked_for_on_the_hub(name):
    with pytest.raises(FileNotFoundError, match=r"model_name_or_path=.* nothing at this path"):
        check_source(name, "model_name_or_path", "model")


def test_hub_that_is_out_of_reach_is_told_without_retries(online):
    with pytest.raises(ConnectionError, match=r"dataset_name=.user/prompts.*http://127.0.0.1:\d+ cannot be reached"):
        check_source("user/prompts", "dataset_name", "dataset")


def test_offline_mode_is_named(monkeypatch, online):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        check_source("user/model", "model_name_or_path", "model")


def test_what_is_here_or_in_the_cache_needs_no_hub(tmp_path, online):
    check_source(str(tmp_path), "model_name_or_path", "model")
    (tmp_path / "cache" / "models--user--model").mkdir(parents=True)
    check_source("user/model", "model_name_or_path", "model")
