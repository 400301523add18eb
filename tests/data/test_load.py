import json
from collections import Counter

import pytest
from datasets import Dataset, IterableDataset
from PIL import Image

from arr_trl.data import load_prompts


@pytest.mark.parametrize("streaming", [False, True])
def test_cache_of_datasets_that_cannot_be_written_to_is_one_sentence(tmp_path, monkeypatch, streaming):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a red circle"}\n')
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", "/proc/nowhere/datasets")
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    with pytest.raises(OSError, match=r"/proc/nowhere/datasets cannot be written to \(.*\); choose another `HF_HOME`"):
        load_prompts(str(tmp_path / "prompts.jsonl"), streaming=streaming)


PROMPTS = ["a red circle", "a blue square", "a green triangle"]


def write(folder, kind):
    data = Dataset.from_dict({"prompt": PROMPTS, "style": ["oil", "ink", "oil"]})
    path = folder / f"prompts.{kind}"
    if kind == "jsonl":
        data.to_json(path)
    elif kind == "csv":
        data.to_csv(path)
    elif kind == "parquet":
        data.to_parquet(path)
    else:
        path.write_text("\n".join(PROMPTS))
    return str(path)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "txt"])
def test_local_files_give_the_same_prompts(tmp_path, kind, streaming):
    dataset = load_prompts(write(tmp_path, kind), streaming=streaming)
    assert isinstance(dataset, IterableDataset) == streaming
    rows = list(dataset)
    assert [row["prompt"] for row in rows] == PROMPTS
    assert kind == "txt" or [row["style"] for row in rows] == ["oil", "ink", "oil"]


@pytest.mark.parametrize("streaming", [False, True])
def test_folder_of_pictures_gives_source_images(tmp_path, streaming):
    folder = tmp_path / "edits"
    folder.mkdir()
    lines = []
    for i, prompt in enumerate(PROMPTS):
        Image.new("RGB", (4, 4), (50 * i, 0, 0)).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "instruction": prompt}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    rows = list(load_prompts(str(folder), streaming=streaming, prompt_column="instruction", source_column="image"))
    assert [row["prompt"] for row in rows] == PROMPTS
    assert [row["source_image"].getpixel((0, 0))[0] for row in rows] == [0, 50, 100]


@pytest.mark.parametrize("streaming", [False, True])
def test_prompt_column_is_renamed_and_replaces_another_prompt(tmp_path, streaming):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": 0, "caption": p}) for p in PROMPTS))
    rows = list(load_prompts(str(path), streaming=streaming, prompt_column="caption"))
    assert [row["prompt"] for row in rows] == PROMPTS


@pytest.mark.parametrize("streaming", [False, True])
def test_a_number_too_long_to_count_with_is_one_sentence(tmp_path, streaming):
    (tmp_path / "prompts.csv").write_text("prompt,id\na cat,99999999999999999999\n")
    with pytest.raises(ValueError, match=r"prompts.csv cannot be read .*OverflowError.*; repair the file"):
        load_prompts(str(tmp_path / "prompts.csv"), streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_data_files_are_taken_from_the_folder(tmp_path, streaming):
    write(tmp_path, "jsonl")
    (tmp_path / "other.jsonl").write_text(json.dumps({"prompt": "another"}))
    rows = load_prompts(str(tmp_path), data_files="other.jsonl", streaming=streaming)
    assert [row["prompt"] for row in rows] == ["another"]


@pytest.mark.parametrize("streaming", [False, True])
def test_several_datasets_come_one_after_the_other_or_by_weight(tmp_path, streaming):
    names = []
    for name, count in (("a", 20), ("b", 80)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"prompt": name}) for _ in range(count)))
        names.append(str(tmp_path / f"{name}.jsonl"))
    together = [row["prompt"] for row in load_prompts(names, streaming=streaming)]
    assert together == ["a"] * 20 + ["b"] * 80
    weighted = Counter(row["prompt"] for row in load_prompts(names, streaming=streaming, weights=[3, 3]))
    assert weighted["b"] >= 80
    assert 0.7 < weighted["a"] / weighted["b"] < 1.4


@pytest.mark.parametrize(("arguments", "message"), [
    ({"prompt_column": "caption"}, "has no column 'caption', only 'prompt', 'style'; set `prompt_column`"),
    ({"source_column": "image"}, "has no column 'image', only 'prompt', 'style'; set `source_column`"),
    ({"weights": [1.0, 2.0]}, "for 1 datasets .*; give one weight greater than 0 for each"),
    ({"weights": [0.0]}, "give one weight greater than 0"),
])  # fmt: skip
@pytest.mark.parametrize("streaming", [False, True])
def test_what_does_not_fit_is_said(tmp_path, arguments, message, streaming):
    with pytest.raises(ValueError, match=message):
        load_prompts(write(tmp_path, "jsonl"), streaming=streaming, **arguments)


def test_missing_file_and_unknown_ending_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no prompt file at"):
        load_prompts(str(tmp_path / "none.jsonl"))
    (tmp_path / "prompts.xlsx").write_text("")
    with pytest.raises(ValueError, match=r"does not end in \.jsonl"):
        load_prompts(str(tmp_path / "prompts.xlsx"))


@pytest.mark.parametrize("streaming", [False, True])
def test_paths_of_masks_are_relative_to_their_file_as_those_of_sources_are(tmp_path, streaming):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "source_image": "s.png", "mask_image": "m.png"}\n')
    (row,) = load_prompts(str(tmp_path / "rows.jsonl"), streaming=streaming)
    assert (row["source_image"], row["mask_image"]) == (str(tmp_path / "s.png"), str(tmp_path / "m.png"))
