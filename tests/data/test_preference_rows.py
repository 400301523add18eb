"""Preference data of every layout as rows to train on: whole and streamed alike, what is left out, and how much memory it takes."""

import json
import logging
from itertools import islice

import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageColumn
from PIL import Image
from scripted_judge import picture
from tiny_pairs import write_pairs

from arr_trl.data import PartStream, load_image
from arr_trl.data.preference_rows import preference_rows, win_rates_of


def write_rows(folder, rows, name="pairs.jsonl"):
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 100, 200)).save(folder / f"{number}.png")
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / name).write_text(text)
    return str(folder / name)


def place(stored):
    return load_image(stored).getpixel((0, 0))[0]


LAYOUTS = {
    "trl": {"prompt": "a", "chosen": "0.png", "rejected": "1.png"},
    "hpdv3": {"prompt": "a", "path1": "0.png", "path2": "1.png"},
    "pick-a-pic": {"caption": "a", "jpg_0": "1.png", "jpg_1": "0.png", "label_0": 0.0, "label_1": 1.0},
    "ranks": {"query": "a", "response": ["1.png", "0.png"], "label_rank": [2, 1]},
    "scores": {"prompt": "a", "images": ["1.png", "0.png"], "label_score": [0.1, 3.5]},
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_preferred_picture_of_every_layout_is_the_chosen_one(tmp_path, layout, streaming):
    (row,) = preference_rows(write_rows(tmp_path, [LAYOUTS[layout]]), streaming=streaming)
    assert row["prompt"] == "a"
    assert (place(row["chosen"]), place(row["rejected"])) == (0, 1)


@pytest.mark.parametrize("streaming", [False, True])
def test_sources_ties_and_broken_rows(tmp_path, streaming, caplog):
    edit = {"instruction": "make it red", "path_src": "2.png", "path1": "0.png", "path2": "1.png", "tie_case": "false"}
    rows = [edit, '{"broken', edit | {"tie_case": True}, edit | {"path2": "none.png"}, edit | {"path_src": "3.png"}]
    caplog.set_level(logging.WARNING)
    found = list(preference_rows(write_rows(tmp_path, rows), streaming=streaming))
    assert [row["row"] for row in found] == [0, 4]
    assert [place(row["source_image"]) for row in found] == [2, 3]
    assert "Row 1: it is not a JSON object" in caplog.text
    assert "Row 3: there is no image" in caplog.text
    if not streaming:
        assert "1 level pairs and 2 rows that cannot be used are left out" in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_rankings_stay_together(tmp_path, streaming):
    row = {"prompt": "a", "images": [f"{k}.png" for k in range(4)], "label_rank": [3, 1, 2, 3]}
    name = write_rows(tmp_path, [row, row | {"label_rank": [1, 1, 1, 1]}])
    (found,) = preference_rows(name, streaming=streaming, rankings=True)
    assert [place(image) for image in found["images"]] == [0, 1, 2, 3]
    assert found["scores"] == pytest.approx([1 / 6, 1.0, 2 / 3, 1 / 6])
    pairs = list(preference_rows(name, streaming=streaming))
    assert [(place(pair["chosen"]), place(pair["rejected"])) for pair in pairs] == [
        (1, 0),
        (2, 0),
        (1, 2),
        (1, 3),
        (2, 3),
    ]


def test_win_rates_are_shares_of_the_others():
    assert win_rates_of([1, 2]) == [1.0, 0.0]
    assert win_rates_of([1, 1, 2]) == [0.75, 0.75, 0.0]


def test_pictures_of_a_dataset_are_read_as_they_are_stored(tmp_path):
    features = Features({"prompt": Value("string"), "chosen": ImageColumn(), "rejected": ImageColumn()})
    rows = [{"prompt": "a", "chosen": picture(k), "rejected": picture(9)} for k in range(3)]
    rows[1]["rejected"] = {"bytes": b"no picture", "path": None}
    (tmp_path / "data").mkdir()
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "data" / "train.parquet")
    for name in (str(tmp_path), str(tmp_path / "data" / "train.parquet")):
        for streaming in (False, True):
            found = preference_rows(name, streaming=streaming)
            stored = found.decode(False) if streaming else found.with_format("arrow")[:].to_pylist()
            assert [place(row["chosen"]) for row in stored] == [0, 2]


def test_file_that_has_changed_is_read_again(tmp_path):
    name = write_rows(tmp_path, [LAYOUTS["trl"]])
    assert len(preference_rows(name)) == 1
    write_rows(tmp_path, [LAYOUTS["trl"]] * 2)
    assert len(preference_rows(name)) == 2


def test_what_cannot_be_trained_on_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(
        ValueError, match=r"no pair that can be used among its first 1000 rows. Row 0: it has no prompt"
    ):
        preference_rows(write_rows(tmp_path, [{"chosen": "0.png", "rejected": "1.png"}]))
    single = [{"prompt": "a", "image": "x"}, {"prompt": "a", "response": "0.png", "label_score": 1.0}]
    name = write_rows(tmp_path, [single[1], single[1] | {"response": "1.png", "label_score": 2.0}])
    assert len(preference_rows(name)) == 1
    with pytest.raises(ValueError, match="they cannot be streamed"):
        preference_rows(name, streaming=True)


def test_stream_resumes_where_it_was_and_gives_each_micro_step_its_part(tmp_path):
    write_pairs(tmp_path, 20)
    rows = preference_rows(str(tmp_path / "pairs.jsonl"), streaming=True)

    def stream():
        return PartStream(rows, chunk_size=4, repeat_count=2, shuffle=True, seed=0, block_size=8)

    whole = stream()
    order = [row["row"] for row in islice(whole, 24)]
    assert sorted(order[:20]) == list(range(20))
    resumed = stream()
    resumed.load_state_dict(whole.state_dict(3))
    assert [row.get("row") for row in islice(resumed, 24)] == [None] * 12 + order[12:]


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_no_more_memory_than_a_thousand(tmp_path):
    import tracemalloc

    features = Features(
        {"caption": Value("string"), "jpg_0": ImageColumn(), "jpg_1": ImageColumn(), "label_0": Value("float64")}
    )
    (tmp_path / "data").mkdir()
    for part in range(100):
        rows = [
            {
                "caption": f"a {part} {k}",
                "jpg_0": picture(k % 200),
                "jpg_1": picture(201),
                "label_0": float(k % 2) if k % 10 else 0.5,
            }
            for k in range(1000)
        ]
        Dataset.from_list(rows, features=features).to_parquet(tmp_path / "data" / f"train-{part:03}.parquet")
    rows = preference_rows(str(tmp_path), streaming=True)
    stream, seen, peaks = PartStream(rows, 32, 2, True, 0, 256), 0, []
    tracemalloc.start()
    for count, _row in enumerate(islice(stream, 89_984), 1):
        seen = count
        if count % 32 == 0:
            stream.state_dict(count // 32 - 1)  # as the trainer asks at every step
        if count in (2_000, 89_000):
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
    tracemalloc.stop()
    assert seen == 89_984
    assert peaks[1] < 1.5 * peaks[0] + 5e5
