import base64
import io
import json

import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from arr_trl.data.preferences import Preference, load_preferences, read_preferences


def png(value):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value,) * 3).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    for name, value in (("a.png", 10), ("b.png", 20), ("c.png", 30), ("s.png", 40)):
        (tmp_path / name).write_bytes(png(value))
    return tmp_path


def brightness(image):
    return image.getpixel((0, 0))[0]


def summary(pairs):
    return [(p.prompt, *map(brightness, p.images), p.winner) for p in pairs]


@pytest.mark.parametrize(
    "row",
    [
        {"query": "x", "response": ["a.png", "b.png"], "label_rank": [2, 1]},
        {"prompt": "x", "images": ["a.png", "b.png"], "label_rank": [2, 1]},
        {"prompt": "x", "generated_images": [{"path": None, "bytes": png(10)}, "b.png"], "label_rank": [5, 2]},
        {"caption": "x", "jpg_0": png(10), "jpg_1": png(20), "label_0": 0.0, "label_1": 1.0},
    ],
)
def test_every_published_layout_is_read(row, folder):
    assert summary(read_preferences([row], folder)) == [("x", 10, 20, 1)]


def test_hpdv3_s_first_path_is_the_better_one(folder):
    row = {"prompt": "x", "path1": "b.png", "path2": "a.png"}
    assert summary(read_preferences([row], folder)) == [("x", 20, 10, 0)]


def test_an_edit_has_its_source(folder):
    row = {"instruction": "x", "base_image": "s.png", "edited_images": ["a.png", "b.png"], "label_rank": [1, 2]}
    (pair,) = read_preferences([{**row, "category": "color"}], folder)
    assert brightness(pair.source_image) == 40
    assert pair.winner == 0
    assert pair.category == "color"


def test_three_ranked_images_make_the_pairs_that_differ_in_rank(folder):
    row = {"prompt": "x", "images": ["a.png", "b.png", "c.png"], "label_rank": [1, 2, 2]}
    assert summary(read_preferences([row], folder)) == [("x", 10, 20, 0), ("x", 10, 30, 0)]


def test_pairs_that_people_found_level_are_left_out(folder):
    assert list(read_preferences([{"caption": "x", "jpg_0": b"", "jpg_1": b"", "label_0": 0.5}], folder)) == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"images": ["a.png", "b.png"], "label_rank": [1, 2]}, "Row 0: it has no prompt"),
        ({"prompt": "x", "response": "a.png"}, "it holds no labelled pair"),
        ({"prompt": "x", "images": ["a.png", "b.png"], "label_rank": ["first", "second"]}, "has to hold numbers"),
        ({"prompt": "x", "images": ["a.png", "a.png"], "label_rank": [1, 2]}, "its two images are identical"),
        ({"caption": "x", "jpg_0": png(10), "jpg_1": None, "label_0": 1.0}, "an image is missing"),
        ({"prompt": "x", "images": ["a.png", "gone.png"], "label_rank": [1, 2]}, "gone.png"),
        ({"prompt": "x", "images": ["a.png", b"no image"], "label_rank": [1, 2]}, "it begins with b'no image'"),
        ({"prompt": "x", "images": ["a.png", "b.png"], "label_rank": [1]}, "2 images and 1 ranks"),
        ({"prompt": "x", "images": ["a.png", png(20)[:-28]], "label_rank": [1, 2]}, "the picture is broken"),
        ({"prompt": "x", "images": [["a.png"], ["b.png"]], "label_rank": [1, 2]}, "a list stands where one image"),
    ],
)
def test_a_bad_row_is_a_sentence_and_not_the_end(row, words, folder):
    good = {"prompt": "y", "images": ["a.png", "b.png"], "label_rank": [1, 2]}
    bad, pair = read_preferences([row, good], folder)
    assert words in bad
    assert isinstance(pair, Preference)


def test_pictures_are_upright_and_what_is_transparent_is_white(folder):
    tilted = Image.Exif()
    tilted[0x0112] = 6  # shown after a quarter turn
    Image.new("RGB", (8, 16)).save(folder / "tilted.jpg", exif=tilted)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / "clear.png")
    (pair,) = read_preferences([{"prompt": "x", "chosen": "tilted.jpg", "rejected": "clear.png"}], folder)
    assert pair.images[0].size == (16, 8)
    assert brightness(pair.images[1]) == 255


PROMPTS = ("query", "prompt", "instruction", "caption")
SOURCES = ("source_image", "base_image", "original_image", "input_image", "reference_image")
IMAGES = (
    "response", "responses", "images", "image_paths", "generated_images",
    "edited_images", "target_images", "output_images", "result_images",
)  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_every_alias_of_the_published_formats_is_read(name, folder):
    for prompt in PROMPTS:
        row = {prompt: "x", name: ["a.png", "b.png"], "label_rank": [2, 1]}
        assert summary(read_preferences([row], folder)) == [("x", 10, 20, 1)]
    for source in SOURCES:
        (pair,) = read_preferences(
            [{"query": "x", source: "s.png", name: ["a.png", "b.png"], "label_rank": [1, 2]}], folder
        )
        assert brightness(pair.source_image) == 40


def test_the_published_examples_load_as_they_are(folder):
    rows = [
        {"query": "A ceramic robot chef.", "response": ["a.png", "b.png"], "label_rank": [1, 2]},
        {
            "query": "Replace the sky…",
            "source_image": "s.png",
            "edited_images": ["a.png", "b.png"],
            "label_rank": [2, 1],
        },
        {"query": "A glass teapot.", "response": "a.png", "label_score": 4},
        {"query": "A glass teapot.", "response": str(folder / "b.png"), "label_score": 2},
    ]
    for name in ("examples.jsonl", "examples.json"):
        text = "".join(json.dumps(row) + "\n" for row in rows) if name.endswith("l") else json.dumps(rows)
        (folder / name).write_text(text)
        assert summary(load_preferences(str(folder / name))) == [
            ("A ceramic robot chef.", 10, 20, 0),
            ("Replace the sky…", 10, 20, 1),
            ("A glass teapot.", 10, 20, 0),
        ]


def test_scored_images_of_a_prompt_make_the_pairs_that_differ_in_score(folder):
    rows = [
        {"query": "x", "response": "a.png", "label_score": 1},
        {"query": "y", "response": ["b.png"], "label_score": [3]},
        {"query": "x", "response": "b.png", "label_score": 3},
        {"query": "x", "response": "c.png", "label_score": 1},
        {"query": "x", "response": "gone.png", "label_score": 1},
    ]
    *pairs, gone, alone = read_preferences(rows, folder)
    assert summary(pairs) == [("x", 10, 20, 1), ("x", 20, 30, 0)]
    assert gone.startswith("Row 4: there is no image")
    assert alone == "Row 1: there is no other image of its prompt with another `label_score` to compare it with."


def test_an_edit_may_have_several_sources(folder):
    row = {"query": "x", "source_image": ["s.png", "c.png"], "edited_images": ["a.png", "b.png"], "label_rank": [1, 2]}
    (pair,) = read_preferences([row], folder)
    assert [brightness(image) for image in pair.source_image] == [40, 30]


def test_a_list_of_scores_ranks_like_a_list_of_ranks(folder):
    row = {"query": "x", "responses": ["a.png", "b.png", "c.png"], "label_score": [1, 5, 5]}
    assert summary(read_preferences([row], folder)) == [("x", 10, 20, 1), ("x", 10, 30, 1)]


def test_pairs_know_their_row_and_why_the_winner_was_preferred(folder):
    row = {"prompt": "x", "images": ["a.png", "b.png"], "label_rank": [1, 2], "rationale": "It is darker."}
    bad, pair = read_preferences([{"prompt": "x"}, row], folder)
    assert "Row 0" in bad
    assert (pair.row, pair.rationale) == (1, "It is darker.")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jsonl", "", "is empty"),
        ("blank.json", " \n", "is empty"),
        ("none.json", "[]", "holds no rows"),
        ("broken.json", "[{", "is not valid JSON"),
        ("broken.parquet", "nothing", "cannot be read as parquet"),
    ],
)
def test_a_file_without_rows_is_refused_in_a_sentence(folder, name, content, words):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        list(load_preferences(str(folder / name)))


def test_a_broken_line_is_one_bad_row(folder):
    good = json.dumps({"query": "x", "response": ["a.png", "b.png"], "label_rank": [1, 2]})
    (folder / "pairs.jsonl").write_text(f"{good}\n{{broken\n[1]\n\n{good}\n")
    first, broken, no_object, last = load_preferences(str(folder / "pairs.jsonl"))
    assert isinstance(first, Preference)
    assert broken == "Row 1: it is not a JSON object: '{broken'."
    assert no_object.startswith("Row 2: it is not a JSON object")
    assert last.row == 3


def test_a_jsonl_file_is_read_with_paths_relative_to_it(folder):
    rows = [
        {"query": "x", "response": ["a.png", "b.png"], "label_rank": [1, 2]},
        {"query": "y", "response": [str(folder / "b.png"), "c.png"], "label_rank": [2, 1]},
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert summary(load_preferences(str(path))) == [("x", 10, 20, 0), ("y", 20, 30, 1)]
    with pytest.raises(FileNotFoundError, match=r"no file .*other\.jsonl"):
        load_preferences(str(folder / "other.jsonl"))


def test_image_columns_of_a_parquet_file_are_read(folder):
    features = Features({"prompt": Value("string"), "chosen": ImageFeature(), "rejected": ImageFeature()})
    row = {"prompt": "x", "chosen": Image.new("RGB", (8, 8), (7,) * 3), "rejected": Image.new("RGB", (8, 8))}
    Dataset.from_list([row], features=features).to_parquet(folder / "pairs.parquet")
    assert summary(load_preferences(str(folder / "pairs.parquet"))) == [("x", 7, 0, 0)]


def test_editreward_data_has_its_source_and_its_ties(tmp_path):
    for name in ("source", "a", "b"):
        Image.new("RGB", (8, 8), {"source": "white", "a": "red", "b": "blue"}[name]).save(tmp_path / f"{name}.png")
    row = {"prompt": "Edit it.", "path_src": "source.png", "path1": "a.png", "path2": "b.png", "confidence": 0.5}
    rows = [row | {"tie_case": said} for said in (False, True, "True", None)]
    read = list(read_preferences(rows, tmp_path))
    assert [(pair.row, pair.winner) for pair in read] == [(0, 0), (3, 0)]
    assert read[0].source_image.getpixel((0, 0)) == (255, 255, 255)
    assert [pair.winner for pair in read_preferences(rows, tmp_path, ties=True)] == [0, None, None, 0]
    (sentence,) = read_preferences([row | {"tie_case": "maybe"}], tmp_path)
    assert "`tie_case` has to be true or false, not 'maybe'" in sentence


def test_level_pairs_come_on_request_in_every_layout(tmp_path):
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (8, 8), color).save(tmp_path / f"{name}.png")
    images = ["a.png", "b.png"]
    rows = [
        {"prompt": "p", "images": images, "label_rank": [1, 1]},
        {"prompt": "p", "images": images, "label_score": [3, 3]},
        {"caption": "p", "jpg_0": "a.png", "jpg_1": "b.png", "label_0": 0.5, "label_1": 0.5},
        {"prompt": "q", "image_paths": "a.png", "label_score": 3},
        {"prompt": "q", "image_paths": "b.png", "label_score": 3},
    ]
    assert not [pair for pair in read_preferences(rows, tmp_path) if not isinstance(pair, str)]
    assert [pair.winner for pair in read_preferences(rows, tmp_path, ties=True)] == [None] * 4


def test_a_ranked_row_is_a_group_of_numbered_pairs(tmp_path):
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    row = {"prompt": "p", "images": [f"{i}.png" for i in range(3)], "label_rank": [2, 1, 3]}
    read = list(read_preferences([row], tmp_path))
    assert [(pair.group, pair.group_size, pair.items) for pair in read] == [
        ("row 0", 3, (0, 1)), ("row 0", 3, (0, 2)), ("row 0", 3, (1, 2)),
    ]  # fmt: skip
    two = row | {"images": row["images"][:2], "label_rank": [1, 2]}
    (pair,) = read_preferences([two], tmp_path)
    assert (pair.group, pair.items) == (None, None)
    (pair,) = read_preferences([two | {"label_group": "g", "label_group_size": 6}], tmp_path)
    assert (pair.group, pair.group_size) == ("g", 6)


RED, BLUE = png(200), png(100)
PICK = {"caption": "x", "jpg_0": BLUE, "jpg_1": RED}


def test_a_pair_that_nobody_has_labelled_is_not_read_as_second_better(folder):
    for row in (
        {"label_0": 0, "label_1": 0, "has_label": False},
        {"label_0": 1.0, "label_1": 0.0, "has_label": False},
    ):
        (told,) = read_preferences([{**PICK, **row}], folder)
        assert told == "Row 0: nobody has labelled it: `has_label` is false."
    assert summary(read_preferences([{**PICK, "label_0": 0, "label_1": 1, "has_label": True}], folder)) == [
        ("x", 100, 200, 1)
    ]


@pytest.mark.parametrize("labels", [(0, 0), (1, 1), (2, -1), (0.5, 0)])
def test_labels_of_a_pair_that_do_not_add_up_to_one_choice_are_told(labels, folder):
    (told,) = read_preferences([{**PICK, "label_0": labels[0], "label_1": labels[1]}], folder)
    assert "are shares of one choice, and have to add up to 1" in told


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"images": ["a.png", "b.png"], "label_rank": [1, 2], "label_score": [0.1, 0.9]}, ("label_rank", "label_score")),
        ({"images": ["a.png", "b.png"], "label_rank": [1, 2], "chosen": "b.png", "rejected": "a.png"}, ("chosen", "label_rank")),
        (
            {**PICK, "label_0": 1, "label_1": 0, "image_0_uid": "u", "image_1_uid": "v", "best_image_uid": "v"},
            ("label_0", "best_image_uid"),
        ),
    ],
    ids=["rank and score", "rank and chosen", "label and best"],
)  # fmt: skip
def test_labels_that_disagree_are_told_and_not_chosen_from(row, names, folder):
    (told,) = read_preferences([{"prompt": "x", **row}], folder)
    assert told == f"Row 0: `{names[0]}` and `{names[1]}` disagree about which of two images is better."


def test_labels_of_an_image_that_stands_twice_are_held_against_each_other(folder):
    row = {"prompt": "x", "images": ["a.png", "a.png", "b.png"], "label_rank": [1, 2, 3], "label_score": [1, 2, 3]}
    assert list(read_preferences([row], folder)) == [
        "Row 0: `label_rank` and `label_score` disagree about which of two images is better."
    ]
    *pairs, told = sorted(
        read_preferences([row | {"label_score": [3, 2, 1]}], folder), key=lambda p: isinstance(p, str)
    )
    assert [p.winner for p in pairs] == [0, 0]
    assert "identical" in told


def test_a_tie_whose_best_image_is_named_is_told(folder):
    uids = {"image_0_uid": "u", "image_1_uid": "v", "best_image_uid": "v"}
    for ties in (False, True):
        (told,) = read_preferences([{**PICK, **uids, "label_0": 0.5, "label_1": 0.5}], folder, ties)
        assert "`label_0` and `best_image_uid` disagree" in told


def test_labels_that_agree_or_say_nothing_of_each_other_are_read(folder):
    images = {"prompt": "x", "images": ["a.png", "b.png"], "label_rank": [1, 2]}
    for row in ({"label_score": [2, 1]}, {"label_score": [1, 1]}, {"chosen": "a.png", "rejected": "c.png"}):
        (pair,) = read_preferences([images | row], folder)
        assert pair.winner == 0
    uids = {"image_0_uid": "u", "image_1_uid": "v", "best_image_uid": "tie"}
    assert list(read_preferences([{**PICK, **uids, "label_0": 0.5, "label_1": 0.5}], folder)) == []


@pytest.mark.parametrize("bad", ["a.png", "gone.png"])
def test_one_pair_that_cannot_be_used_takes_none_of_its_row_with_it(bad, folder):
    row = {"prompt": "x", "images": ["a.png", bad, "b.png", "c.png"], "label_rank": [1, 2, 3, 4]}
    found = list(read_preferences([row], folder))
    pairs = [p for p in found if isinstance(p, Preference)]
    assert {(brightness(a), brightness(b)) for a, b in (p.images for p in pairs)} >= {(10, 20), (10, 30), (20, 30)}
    assert len(found) - len(pairs) == 1  # told once, whatever the number of its pairs


def test_one_scored_image_that_equals_another_is_still_compared_with_the_rest(folder):
    rows = [{"prompt": "x", "images": [name], "label_score": [score]} for name, score in
            (("a.png", 1), ("a.png", 2), ("b.png", 3))]  # fmt: skip
    told, *pairs = read_preferences(rows, folder)
    assert "identical" in told
    assert summary(pairs) == [("x", 10, 20, 1), ("x", 10, 20, 1)]


def pairs_file(folder, prompt="x"):
    row = {"prompt": prompt, "images": ["a.png", "b.png"], "label_rank": [2, 1]}
    return json.dumps(row, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85"])
def test_a_text_with_an_unusual_line_end_is_one_row(folder, end):
    (folder / "pairs.jsonl").write_text(pairs_file(folder, f"x{end}y"), encoding="utf-8")
    assert summary(load_preferences(str(folder / "pairs.jsonl"))) == [(f"x{end}y", 10, 20, 1)]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.json"])
def test_pairs_are_read_in_the_encodings_of_editors_and_refused_by_name_in_others(folder, name):
    for encoding in ("utf-8-sig", "utf-16"):
        (folder / name).write_bytes(pairs_file(folder, "café").encode(encoding))
        assert summary(load_preferences(str(folder / name))) == [("café", 10, 20, 1)]
    (folder / name).write_bytes(pairs_file(folder, "café").encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{name} is no text in UTF-8: line 1"):
        load_preferences(str(folder / name))


def test_a_label_that_comes_twice_is_told(folder):
    twice = pairs_file(folder).replace("}", ', "label_rank": [1, 2]}')
    (folder / "pairs.jsonl").write_text(twice + pairs_file(folder))
    told, pair = load_preferences(str(folder / "pairs.jsonl"))
    assert told == "Row 0: the key 'label_rank' comes twice."
    assert pair.winner == 1
    (folder / "pairs.json").write_text(f"[{twice}]")
    with pytest.raises(ValueError, match=r"pairs\.json is not valid JSON \(the key 'label_rank' comes twice\)"):
        load_preferences(str(folder / "pairs.json"))


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs.JSONL"])
def test_pairs_in_a_format_that_is_not_read_are_refused_by_name(folder, name):
    (folder / name).write_text("prompt,chosen,rejected\nx,a.png,b.png\n")
    with pytest.raises(ValueError, match=rf"{name} does not end in \.jsonl, \.json, \.parquet"):
        load_preferences(str(folder / name))


def test_pictures_in_data_urls_are_read_and_a_broken_one_is_a_short_sentence(folder):
    good = ["data:image/png;base64," + base64.b64encode(png(value)).decode() for value in (10, 20)]
    bad = "data:image/png;base64," + "A" * 400_000
    rows = [
        {"prompt": "x", "images": images, "label_rank": [2, 1]}
        for images in (good, [bad, good[0]], ["A" * 10_000, good[0]])
    ]
    pair, *told = read_preferences(rows, folder)
    assert summary([pair]) == [("x", 10, 20, 1)]
    assert [len(sentence) < 400 for sentence in told] == [True, True]


@pytest.mark.parametrize("whole", [False, True])
def test_a_broken_picture_of_a_list_column_is_one_row(tmp_path, whole):
    features = Features(
        {"prompt": Value("string"), "images": List(ImageFeature()), "label_rank": List(Value("int64"))}
    )
    pictures = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    broken = [{"bytes": b"<svg>", "path": None}, pictures[1]]
    rows = [{"prompt": "x", "images": images, "label_rank": [1, 2]} for images in (broken, pictures)]
    (tmp_path / "pairs").mkdir()
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "pairs" / "pairs.parquet")
    sentence, pair = load_preferences(str(tmp_path / "pairs" if whole else tmp_path / "pairs" / "pairs.parquet"))
    assert sentence.startswith("Row 0: ")
    assert (pair.row, pair.winner) == (1, 0)
