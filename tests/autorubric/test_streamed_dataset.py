"""From a dataset that is streamed from the Hub, with `Image` columns, to a rubric that knows where it comes from."""

import os
import subprocess
import sys

import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from hub_server import HubServer

from arr_trl.rubrics import Rubric
from arr_trl.tiny_scenes import preferences


GENERATE = ["rubric", "generate", "--dataset", "user/pairs", "--judge_model", "tiny_scenes", "--limit", "30"]


@pytest.fixture
def hub():
    with HubServer() as hub:
        yield hub


def test_pairs_are_streamed_from_the_hub_with_their_commit(hub, tmp_path):
    pairs = preferences(40)
    features = Features(
        {"prompt": Value("string"), "images": List(ImageFeature()), "label_rank": List(Value("int64"))}
    )
    rows = [{"prompt": p.prompt, "images": list(p.images), "label_rank": [1 + p.winner, 2 - p.winner]} for p in pairs]
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "train.parquet")
    hub.add("user/pairs", {"data/train.parquet": (tmp_path / "train.parquet").read_bytes()}, kind="dataset")
    (tmp_path / "home").mkdir()
    environment = {**os.environ, **hub.environment(tmp_path / "home")}
    command = [sys.executable, "-m", "arr_trl.cli.main", *GENERATE]
    assert subprocess.run(command, cwd=tmp_path, env=environment, timeout=1800).returncode == 0
    rubric = Rubric.load(tmp_path / "rubric.json")
    assert rubric.provenance.dataset == "user/pairs"
    assert rubric.provenance.dataset_revision == hub.repos["dataset", "user/pairs"].branches["main"]
    assert rubric.provenance.counts["pairs"] == 30
    assert rubric.provenance.holdout["with_rubric"]["pairs"] == rubric.provenance.counts["pairs_held_out"] > 0
