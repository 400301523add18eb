"""What libraries say that nobody can act on stays off the screen, and nothing else."""

import io
import logging
import subprocess
import sys
import warnings

import pytest

from arr_trl import RPOConfig
from arr_trl.cli.push import in_bytes
from arr_trl.lazy import without_remarks
from arr_trl.quiet import without_bars


def test_remarks_about_a_library_itself_are_left_out_while_it_is_imported():
    written, library = io.StringIO(), logging.getLogger("torchao")
    library.addHandler(handler := logging.StreamHandler(written))
    try:
        with without_remarks():
            library.warning("Failed to load _C_mxfp8.so: no such file")
            library.warning("Disk quota exceeded")
        library.warning("Failed to load it")
    finally:
        library.removeHandler(handler)
    assert written.getvalue() == "Disk quota exceeded\nFailed to load it\n"


@pytest.mark.parametrize("wanted", [True, False])
def test_bars_are_as_they_were_afterwards(wanted):
    shown = [wanted]
    with without_bars(lambda: shown[-1], lambda: shown.append(False), lambda: shown.append(True)):
        assert not shown[-1]
    assert shown[-1] == wanted


def test_settings_of_the_docs_bring_no_warning_that_they_are_old(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        args = RPOConfig(output_dir=str(tmp_path), gradient_checkpointing=True, use_cpu=True, bf16=False)
        assert args.gradient_checkpointing
        with pytest.raises(FutureWarning, match="`cfg` is now called"):  # ours still are told
            RPOConfig(output_dir=str(tmp_path), cfg="off", use_cpu=True, bf16=False)


@pytest.mark.slow
def test_importing_the_trainers_and_loading_a_pipeline_says_nothing():
    code = "import arr_trl.trainer; from arr_trl.tiny_scenes import load_pipeline; load_pipeline()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("size", "told"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_234, "1 kB"), (46_234, "46 kB"), (1_500_000, "1.5 MB"), (76e6, "76.0 MB")],
)
def test_small_files_have_a_size_too(size, told):
    assert in_bytes(int(size)) == told
