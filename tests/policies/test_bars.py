"""What loading a pipeline leaves on the screen, and in the settings of the libraries."""

import sys

from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging as transformers_logging

from arr_trl.policies.bars import one_bar
from arr_trl.tiny_scenes import load_pipeline


def test_a_pipeline_is_loaded_without_bars_where_there_is_no_terminal(capfd):
    load_pipeline()
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_the_bar_of_diffusers_stands_alone_and_downloads_keep_theirs(monkeypatch):
    from diffusers.utils import logging as diffusers_logging

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    transformers_logging.enable_progress_bar()
    with one_bar():
        assert diffusers_logging.is_progress_bar_enabled()
        assert not transformers_logging.is_progress_bar_enabled()
        assert not are_progress_bars_disabled()
    assert transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # whoever wants none gets none, then and later
    with one_bar():
        assert are_progress_bars_disabled()
    assert not transformers_logging.is_progress_bar_enabled()
    assert are_progress_bars_disabled()
    transformers_logging.enable_progress_bar()
