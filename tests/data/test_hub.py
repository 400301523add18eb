"""Names that lead nowhere are told at once, whether the network is there or not."""

import re
import socket
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from arr_trl.data import check_source
from arr_trl.hub_errors import hub_problem


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


def refused(status, **headers):
    return HfHubHTTPError("No.", response=SimpleNamespace(status_code=status, headers=headers, request=None))


def test_what_the_hub_answered_is_told_also_where_it_is_the_cause_of_another_error():
    error = RuntimeError("Error while uploading weights")
    error.__cause__ = refused(403)
    assert "write permission for user," in hub_problem(error, "user/name")


@pytest.mark.parametrize(("error", "sentence"), [
    (refused(401), "hf auth login"),
    (refused(404), "Check `repo_id`"),
    (refused(412), "others kept committing"),
    (refused(429, **{"retry-after": "900"}), "Wait 900 seconds"),
    (refused(429), "Wait a few minutes"),
    (refused(503), "status 503"),
    (refused(400, **{"x-error-message": "Bad license"}), "refused with status 400: Bad license."),
    (HTTPError("reset"), r"cannot be reached \(reset\)\. Check the network"),
    (ConnectionError("gone"), r"cannot be reached \(gone\)\. Check the network"),
    (OSError("No space left on device"), "^No space left on device\\.$"),
])  # fmt: skip
def test_every_error_has_a_sentence_that_says_what_to_do(error, sentence):
    assert re.search(sentence, hub_problem(error, "user/name"))


def test_cache_that_cannot_be_written_to_is_told_where_something_has_to_be_downloaded(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/proc/nowhere/hub")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with pytest.raises(OSError, match=r"/proc/nowhere/hub cannot be written to \(.*\); choose another `HF_HOME`"):
        check_source("user/model", "model_name_or_path", "model")
    (tmp_path / "models--user--model").mkdir()
    check_source(
        "user/model", "model_name_or_path", "model", cache_dir=tmp_path
    )  # it is there, in a cache to read from
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    check_source("user/model", "model_name_or_path", "model")
    check_source(str(tmp_path), "model_name_or_path", "model")
