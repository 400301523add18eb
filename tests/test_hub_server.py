"""The Hub of the tests is good for datasets too: the real `datasets` streams from it."""

import io
import json

import pytest
from datasets import Dataset, Features, Image, Value
from hub_client import ClientError
from PIL import Image as PILImage


STREAM = """
from datasets import load_dataset
rows = load_dataset(repo, split="train", streaming=True, **arguments)
result = [{name: getattr(value, "size", value) for name, value in row.items()} for row in rows]
"""


def jsonl(prompts):
    return "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts).encode()


def png(color):
    buffer = io.BytesIO()
    PILImage.new("RGB", (4, 3), color).save(buffer, "png")
    return buffer.getvalue()


def test_jsonl_shards_are_streamed(hub, client):
    files = {"data/train-0.jsonl": jsonl(["a", "b"]), "data/train-1.jsonl": jsonl(["c"])}
    hub.add("user/prompts", files, kind="dataset")
    rows = client.run(STREAM, repo="user/prompts", arguments={})
    assert [row["prompt"] for row in rows] == ["a", "b", "c"]


def test_parquet_with_images_is_streamed(hub, client, tmp_path):
    features = Features({"prompt": Value("string"), "source": Image()})
    rows = {"prompt": ["a", "b"], "source": [PILImage.new("RGB", (4, 3), color) for color in ("red", "blue")]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    hub.add("user/edits", {"data/train.parquet": (tmp_path / "train.parquet").read_bytes()}, kind="dataset")
    rows = client.run(STREAM, repo="user/edits", arguments={})
    assert rows == [{"prompt": "a", "source": [4, 3]}, {"prompt": "b", "source": [4, 3]}]


def test_image_folder_with_metadata_is_streamed(hub, client):
    metadata = json.dumps({"file_name": "a.png", "prompt": "a"}).encode() + b"\n"
    hub.add("user/folder", {"train/a.png": png("red"), "train/metadata.jsonl": metadata}, kind="dataset")
    rows = client.run(STREAM, repo="user/folder", arguments={})
    assert rows == [{"image": [4, 3], "prompt": "a"}]


def test_missing_dataset_is_not_found(client):
    with pytest.raises(ClientError, match="user/nothing"):
        client.run(STREAM, repo="user/nothing", arguments={})
