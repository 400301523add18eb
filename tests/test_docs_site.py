"""The site that `make docs` builds: without a warning, and with what readers search for in its index."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import arr_trl


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason="sphinx is not installed; the `docs` extra brings it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs/source", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


def text_of(page: Path) -> str:
    from bs4 import BeautifulSoup

    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").get_text()


def test_every_page_becomes_one(site):
    assert {path.stem for path in (ROOT / "docs" / "source").glob("*.md")} <= {
        path.stem for path in site.glob("*.html")
    }


def test_every_public_name_is_in_the_reference_with_its_docstring(site):
    text = text_of(site / "api.html")
    for name in set(arr_trl.__all__) - {"__version__"}:
        assert f".{name}" in text, name
    assert "adapters (Sequence[AdapterSource])" in text  # sections are taken apart
    assert "Args:" not in text
    assert "[`" not in text


def test_error_sentences_of_every_layer_are_found(site):
    text = " ".join(text_of(site / "troubleshooting.html").split())
    for sentence in (
        "There is no prompt file at …; check `dataset_name`.",
        "… needs a `train_dataset` with a `prompt` column.",
        "the Hub asks for fewer requests. Wait …",
        "There is nothing to compare with: give a judge, `reward_funcs` or `eval_funcs`.",
        "less than half a grey level, so the judge has nothing to see.",
    ):
        assert sentence in text, sentence


def test_search_index_knows_the_words_of_an_error(site):
    index = json.loads((site / "searchindex.js").read_text()[len("Search.setIndex(") : -1])
    page = index["docnames"].index("troubleshooting")
    for word in ("grey", "jsonl"):
        pages = index["terms"][word]
        assert page in (pages if isinstance(pages, list) else [pages]), word
