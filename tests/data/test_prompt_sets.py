"""Each benchmark is read from a file in its authors' own form, written here by hand."""

import csv
import io
import json
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from arr_trl.data import load_prompts
from arr_trl.data.preferences import load_preferences
from arr_trl.data.prompt_sets import PROMPT_SETS, find_prompt_set, load_prompt_set, read_prompt_set


def png(color):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def write_csv(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path, rows):
    Dataset.from_list(rows).to_parquet(path)
    return path


def test_geneval_prompts_keep_their_order_and_tag(tmp_path):
    path = tmp_path / "evaluation_metadata.jsonl"
    rows = [
        {"tag": "two_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench and a cup"},
        {"tag": "counting", "include": [{"class": "bird", "count": 3}], "prompt": "a photo of three birds"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = load_prompt_set("geneval", path)
    assert dataset["prompt"][:] == [row["prompt"] for row in rows]
    assert dataset["category"][:] == ["two_object", "counting"]
    assert json.loads(dataset[1]["metadata"]) == rows[1]  # what a scorer needs of it


def test_dpg_bench_prompt_comes_once_for_all_its_questions(tmp_path):
    rows = [
        {
            "item_id": item,
            "text": text,
            "keywords": "",
            "proposition_id": p,
            "dependency": 0,
            "category_broad": "entity",
        }
        for item, text in (("a", "A long prompt."), ("b", "Another, with a comma."))
        for p in (1, 2, 3)
    ]
    dataset = load_prompt_set("dpg-bench", write_csv(tmp_path / "dpg_bench.csv", rows))
    assert dataset["prompt"][:] == ["A long prompt.", "Another, with a comma."]


def test_t2i_compbench_reads_one_file_a_category(tmp_path):
    compbench = find_prompt_set("t2i-compbench")
    for category in compbench.categories:
        (tmp_path / f"{category}_val.txt").write_text(f"a {category} prompt\nanother {category} prompt\n")
    dataset = load_prompt_set("t2i-compbench", tmp_path)
    assert len(dataset) == 16
    assert dataset[2] == {"prompt": "a shape prompt", "category": "shape"}
    assert {"3d_spatial", "numeracy"} < set(dataset["category"])


def test_parti_prompts_are_separated_by_tabs(tmp_path):
    rows = [{"Prompt": "bond, James bond", "Category": "Abstract", "Challenge": "Basic", "Note": ""}]
    dataset = load_prompt_set("parti-prompts", write_csv(tmp_path / "PartiPrompts.tsv", rows, delimiter="\t"))
    assert dataset[0] == {"prompt": "bond, James bond", "category": "Abstract"}


def test_drawbench(tmp_path):
    path = write_csv(tmp_path / "drawbench.csv", [{"Prompts": "A red colored car.", "Category": "Colors"}])
    assert load_prompt_set("drawbench", path)[0] == {"prompt": "A red colored car.", "category": "Colors"}


@pytest.mark.parametrize("name", ["unigenbench", "unigenbench-en-long"])
def test_unigenbench_keeps_all_its_test_points(tmp_path, name):
    points = {"Testpoints": ["Attribute - Color", "Style"], "Testpoint Description": ["it is blue", "a drawing"]}
    path = tmp_path / "test.csv"
    write_csv(path, [{"index": 0, "prompt_en": "A blue dog.", "sub_dims_en": json.dumps(points)}])
    assert load_prompt_set(name, path)[0] == {
        "prompt": "A blue dog.",
        "category": "Attribute - Color",
        "test_points": ["Attribute - Color", "Style"],
        "test_point_descriptions": ["it is blue", "a drawing"],
    }


@pytest.mark.parametrize("name", ["unigenbench-zh", "unigenbench-zh-long"])
def test_unigenbench_in_chinese_has_columns_of_its_own(tmp_path, name):
    points = {"主体": "动物", "考点": ["风格", "属性-数量"], "考点对应描述": ["水墨画风格", "两只熊猫"]}
    row = {"index": 0, "prompt_zh": "两只熊猫，水墨画风格。", "sub_dims_zh": json.dumps(points, ensure_ascii=False)}
    read = load_prompt_set(name, write_csv(tmp_path / "test.csv", [row]))[0]
    assert (read["prompt"], read["category"]) == (row["prompt_zh"], "风格")
    assert read["test_point_descriptions"] == ["水墨画风格", "两只熊猫"]


def test_geneval2_keeps_the_questions_about_a_picture(tmp_path):
    questions = [["How many dogs are in the image?", "two"], ["Are there any dogs in the image?", "Yes"]]
    row = {"prompt": "two dogs", "atom_count": 2, "vqa_list": questions, "skills": ["count", "object"]}
    (tmp_path / "geneval2_data.jsonl").write_text(json.dumps(row) + "\n")
    assert load_prompt_set("geneval2", tmp_path / "geneval2_data.jsonl")[0] == row | {"category": "2 atoms"}


@pytest.mark.parametrize(("name", "prompt"), [("qwen-image-bench", "A dog."), ("qwen-image-bench-cn", "一只狗。")])
def test_qwen_image_bench_has_two_languages(tmp_path, name, prompt):
    dims = {"dims_en": "Quality / Detail / Noise; Alignment / Layout / 2D Space", "dims_cn": "质量 / 细节 / 噪点"}
    row = {"ID": 7, "prompt_en": "A dog.", "prompt_cn": "一只狗。", **dims}
    (tmp_path / "bench.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    read = load_prompt_set(name, tmp_path / "bench.jsonl")[0]
    assert (read["prompt"], read["category"]) == (prompt, "Quality" if name == "qwen-image-bench" else "质量")
    assert len(read["facets"]) == (2 if name == "qwen-image-bench" else 1)


@pytest.mark.parametrize(
    ("name", "prompts"),
    [
        ("gedit-bench", ["Make it green.", "Make it blue."]),
        ("gedit-bench-intersection", ["Make it green."]),
        ("gedit-bench-cn", ["把它变绿", "把它变蓝"]),
        ("gedit-bench-cn-intersection", ["把它变绿"]),
    ],
)
def test_gedit_bench_has_two_languages_and_what_all_models_drew(tmp_path, name, prompts):
    rows = [
        {"key": "1", "task_type": "color_alter", "instruction": text, "instruction_language": language}
        | {"input_image": png("red"), "input_image_raw": png("blue"), "Intersection_exist": drawn}
        for text, language, drawn in (
            ("Make it green.", "en", True), ("把它变绿", "cn", True),
            ("Make it blue.", "en", False), ("把它变蓝", "cn", False),
        )
    ]  # fmt: skip
    dataset = load_prompt_set(name, write_parquet(tmp_path / "gedit.parquet", rows))
    assert dataset["prompt"][:] == prompts
    assert dataset[0]["source_image"].getpixel((0, 0)) == (0, 0, 255)  # the raw one


def test_gedit_bench_v2_pictures_stand_beside_the_file(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "1.png")
    row = {"key": "color_alter_000001", "instruction": "Make it green.", "source_image": "1.png", "candidates": []}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    read = load_prompt_set("gedit-bench-v2", tmp_path / "metadata.jsonl")[0]
    assert (read["prompt"], read["source_image"].getpixel((0, 0))) == ("Make it green.", (255, 0, 0))


def test_humanedit_has_a_mask_and_the_edit_of_people(tmp_path):
    row = {"IMAGE_ID": "1", "EDITING_TYPE": "Remove", "CORE": 0, "MASK": 1, "EDITING_INSTRUCTION": "Remove the dog."}
    row |= {"INPUT_IMG": png("red"), "MASK_IMG": png("white"), "OUTPUT_IMG": png("blue")}
    read = load_prompt_set("humanedit", write_parquet(tmp_path / "humanedit.parquet", [row]))[0]
    assert (read["prompt"], read["category"]) == ("Remove the dog.", "Remove")
    colors = [read[name].getpixel((0, 0)) for name in ("source_image", "mask_image", "edited_image")]
    assert colors == [(255, 0, 0), (255, 255, 255), (0, 0, 255)]


def test_imgedit_pictures_stand_beside_the_file(tmp_path):
    (tmp_path / "animal").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "animal" / "1.png")
    path = tmp_path / "singleturn.json"
    path.write_text(json.dumps({"1": {"id": "animal/1.png", "prompt": "Remove the dog.", "edit_type": "remove"}}))
    row = load_prompt_set("imgedit", path)[0]
    assert row["prompt"] == "Remove the dog."
    assert row["source_image"].getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("name", ["imgedit-uge", "imgedit"])
def test_imgedit_of_the_hard_set_has_no_edit_type(tmp_path, name):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "1.jpg")
    (tmp_path / "UGE_edit.json").write_text(json.dumps({"1": {"id": "1.jpg", "prompt": "Remove the lemon."}}))
    row = load_prompt_set(name, tmp_path / "UGE_edit.json")[0]
    assert (row["prompt"], row["category"]) == ("Remove the lemon.", None)


def test_imgedit_in_several_turns_keeps_them_all(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "1.jpg")
    turns = {"turn1": "Add a dog.", "turn2": "Make it black.", "turn3": "Undo that."}
    (tmp_path / "edits.json").write_text(json.dumps({"1": {"id": "1.jpg", **turns}}))
    row = load_prompt_set("imgedit-multiturn", tmp_path / "edits.json")[0]
    assert (row["prompt"], row["turns"], row["category"]) == ("Add a dog.", list(turns.values()), "3 turns")


def test_several_sources_are_all_read(tmp_path):
    row = {"prompt_images": [png("white"), png("black"), png("red")], "chosen": "A", "prompt_source": "x"}
    row |= {"response_a_images": [png("red")], "response_b_images": [png("blue")]}
    one = row | {"prompt_text": "Edit it.", "prompt_images": [png("green")]}
    three = row | {"prompt_text": "<image_1>\n<image_2>\n<image_3>\nThe dog of <image_2> meets its twin."}
    path = write_parquet(tmp_path / "edit.parquet", [one, three])
    dataset = load_prompt_set("mmrb2-edit", path)
    assert [len(sources) for sources in dataset["source_image"]] == [1, 3]
    assert dataset[1]["prompt"] == "The dog of image 2 meets its twin."
    assert dataset[1]["source_image"][1].getpixel((0, 0)) == (0, 0, 0)
    assert [len(pair.source_image) for pair in load_preferences(f"mmrb2-edit:{path}") if pair.row] == [3]


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("<image_1> Make it red.", "Make it red."),
        ("Make it red.\n<image_1>", "Make it red."),
        ("<image_1> and <image_2> meet.", "image 1 and image 2 meet."),
        ("Put it next to <image_2>", "Put it next to image 2"),
        ("Make it red.", "Make it red."),
        ("<image_1>", ""),
    ],
)
def test_marks_of_pictures_are_words_or_nothing(text, prompt):
    row = {"prompt_text": text, "response_a_images": [1], "response_b_images": [2], "chosen": "A"}
    assert find_prompt_set("mmrb2-edit").row(row)["prompt"] == prompt


def winner(row):
    """The color of the better picture, from a row in the form that `read_preferences` takes."""
    better = row["images"][row["label_rank"].index(1)]
    return Image.open(io.BytesIO(better["bytes"])).getpixel((0, 0))


@pytest.mark.parametrize(("chosen", "color"), [("A", (255, 0, 0)), ("B", (0, 0, 255))])
def test_mmrb2_edit(tmp_path, chosen, color):
    row = {"pair_id": "1", "prompt_text": "Edit it.", "prompt_images": [png("white")], "chosen": chosen}
    row |= {"response_a_images": [png("red")], "response_b_images": [png("blue")], "prompt_source": "x"}
    path = write_parquet(tmp_path / "edit.parquet", [row])
    (read,) = read_prompt_set(find_prompt_set("mmrb2-edit"), path)
    assert winner(read) == color
    assert read["source_image"]["bytes"] == png("white")["bytes"]
    assert load_prompt_set("mmrb2-edit", path)["prompt"][:] == ["Edit it."]


def test_hpdv3_first_path_is_the_better_one(tmp_path):
    path = tmp_path / "test.json"
    path.write_text(
        json.dumps([{"prompt": "A cat.", "path1": "images/a.jpg", "path2": "images/b.jpg", "model1": "flux"}])
    )
    (row,) = read_prompt_set(find_prompt_set("hpdv3"), path)
    assert row["images"] == [str(tmp_path / "images/a.jpg"), str(tmp_path / "images/b.jpg")]
    assert row["label_rank"] == [1, 2]


def test_the_two_editreward_benches_are_told_apart(tmp_path):
    pair = {
        "instruction": "Edit it.",
        "source_image": png("white"),
        "candidate_1": png("red"),
        "candidate_2": png("blue"),
    }
    rows = [
        pair | {"dataset": "2pair", "ranking": "B>A", "comparison_type": None},
        pair | {"dataset": "2pair", "ranking": "A=B", "comparison_type": None},
        pair | {"dataset": "3pair", "ranking": "B>C", "comparison_type": "BvsC"},
    ]
    path = write_parquet(tmp_path / "bench.parquet", rows)
    read = list(read_prompt_set(find_prompt_set("editreward-bench"), path))
    assert [row["label_rank"] for row in read] == [[2, 1], [1, 1], [1, 2]]
    assert [pair.winner for pair in load_preferences(f"editreward-bench:{path}")] == [
        1,
        0,
    ]  # the level one is left out
    assert [pair.winner for pair in load_preferences(f"editreward-bench:{path}", ties=True)] == [1, None, 0]

    row = {"key": ["1", "2"], "instruction": "Edit it.", "task_type": "color_alter", "input_image": png("white")}
    row |= {"output_images": [png("red"), png("blue")]}
    rows = [row | {"dimension": dimension} for dimension in ("overall", "consistency")]
    path = write_parquet(tmp_path / "editscore.parquet", rows)
    read = list(read_prompt_set(find_prompt_set("editscore-bench"), path))
    assert [winner(row) for row in read] == [(255, 0, 0)]


def test_a_ranking_that_is_missing_or_turned_round_is_no_tie(tmp_path):
    pair = {"instruction": "Edit it.", "dataset": "2pair", "source_image": png("white"), "comparison_type": None}
    pair |= {"candidate_1": png("red"), "candidate_2": png("blue")}
    rows = [pair | {"ranking": ranking} for ranking in ("", "A<B", "B < A", None, "A = B")]
    path = write_parquet(tmp_path / "bench.parquet", rows)
    empty, second, first, none, level = load_preferences(f"editreward-bench:{path}", ties=True)
    assert empty.startswith("Row 0: it holds no labelled pair")
    assert none.startswith("Row 3: it holds no labelled pair")
    assert (second.winner, first.winner, level.winner) == (1, 0, None)


def test_a_name_says_which_language_is_read_whatever_else_the_file_has(tmp_path):
    tested = {"Testpoints": ["Style"], "Testpoint Description": ["ink"]}
    row = {"prompt_en": "a fox", "sub_dims_en": json.dumps(tested)}
    chinese = {"prompt_zh": "狐狸", "sub_dims_zh": json.dumps({"考点": ["风格"], "考点对应描述": ["墨"]})}
    both, other = write_csv(tmp_path / "both.csv", [row | chinese]), write_csv(tmp_path / "zh.csv", [chinese])
    assert load_prompt_set("unigenbench", both)[0]["prompt"] == "a fox"
    assert load_prompt_set("unigenbench-zh-long", both)[0]["test_points"] == ["风格"]
    with pytest.raises(ValueError, match=r"cannot be read .KeyError.'sub_dims_en'.*expected was csv: `prompt_en`"):
        load_prompt_set("unigenbench", other)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("geneval2", {"skills": "count"}),
        ("geneval2", {"vqa_list": {"Are there dogs?": "Yes"}}),
        ("geneval2", {"vqa_list": ["Are there dogs?"]}),
        ("consistencyrank", {"rank_images": "a.png b.png"}),
        ("consistencyrank", {"comp_images": "ab"}),
        ("unigenbench", {"sub_dims_en": '{"Testpoints": "Style", "Testpoint Description": []}'}),
    ],
)
def test_letters_and_keys_are_not_taken_for_a_list(name, row):
    whole = {"prompt": "p", "atom_count": 2, "vqa_list": [["Are there dogs?", "Yes"]], "skills": ["count"]}
    whole |= json.loads(RANKING) | {"prompt_en": "p"}
    with pytest.raises(TypeError, match="is no list"):
        find_prompt_set(name).row(whole | row)


def test_a_copy_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for color in ("red", "blue"):
        Image.new("RGB", (8, 8), color).save(tmp_path / f"{color}.png")
    (tmp_path / "test.json").write_text('[{"prompt": "p", "path1": "red.png", "path2": "blue.png"}]')
    (pair,) = load_preferences("hpdv3:~/test.json")
    assert pair.winner == 0
    assert load_prompts("hpdv3", data_files="~/test.json")["prompt"][:] == ["p"]


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("drawbench", "d.csv", "Prompts,Category\na cat,99999999999999999999\n"),
        ("geneval", "d.jsonl", '{"prompt": "p", "tag": "x"}\n{"prompt": "p"\n'),
    ],
    ids=["a number of 20 digits", "an object that does not end"],
)
def test_a_file_that_breaks_while_it_is_read_is_named(tmp_path, name, file, content):
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=rf"{file} cannot be read .*; repair the file"):
        load_prompt_set(name, tmp_path / file)


RANKING = '{"folder": "f", "ref_image": "r.png", "comp_images": ["a.png", "b.png"], "rank_images": ["a.png", "b.png"]}'


@pytest.mark.parametrize(
    ("rankings", "prompts", "words"),
    [
        (RANKING, '{"idx": "g", "prompt": "p"}', "no prompt for the folder 'f' of "),
        (RANKING, '{"prompt": "p"}', "no prompt for the folder 'f' of "),
        (RANKING, "null", r"Line 1 of .*prompt_data.jsonl is not a JSON object: 'null'"),
        (f"{RANKING}\nnull", '{"idx": "f", "prompt": "p"}', r"Line 2 of .*rank.jsonl is not a JSON object"),
        (RANKING, '{"idx": "f", "pro', r"Line 1 of .*prompt_data.jsonl is no JSON that can be read \(Unterminated"),
        (RANKING, '{"idx": "f", "idx": "g"}', r"prompt_data.jsonl is no JSON .*the key 'idx' comes twice"),
    ],
)
def test_a_damaged_file_of_rankings_is_named(tmp_path, rankings, prompts, words):
    (tmp_path / "rank.jsonl").write_text(rankings)
    (tmp_path / "prompt_data.jsonl").write_text(prompts)
    with pytest.raises(ValueError, match=words):
        list(read_prompt_set(find_prompt_set("consistencyrank"), tmp_path / "rank.jsonl"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "UGE_edit.json has to be a JSON object of which every value is a row"),
        ('{"1": null}', "UGE_edit.json has to be a JSON object of which every value is a row"),
        ('{"1": {', "UGE_edit.json is no JSON that can be read"),
        ('{"1": {}, "1": {}}', "UGE_edit.json is no JSON that can be read .the key '1' comes twice"),
    ],
)
def test_a_damaged_file_of_edits_is_named(tmp_path, content, words):
    (tmp_path / "UGE_edit.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        load_prompt_set("imgedit-uge", tmp_path / "UGE_edit.json")


def test_pairs_of_a_set_are_read_where_preferences_are(tmp_path):
    for color in ("red", "blue"):
        Image.new("RGB", (8, 8), color).save(tmp_path / f"{color}.png")
    path = tmp_path / "test.json"
    path.write_text(json.dumps([{"prompt": "A cat.", "path1": "blue.png", "path2": "red.png"}]))
    (pair,) = load_preferences(f"hpdv3:{path}")
    assert pair.images[pair.winner].getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(ValueError, match="geneval has prompts, but no labelled pairs"):
        load_preferences("geneval")


def test_mj_bench_label_names_the_better_picture(tmp_path):
    for category in find_prompt_set("mj-bench").categories:
        row = {"caption": "A cat.", "image0": png("red"), "image1": png("blue"), "label": 1, "info": "object"}
        write_parquet(tmp_path / f"{category}.parquet", [row])
    read = list(read_prompt_set(find_prompt_set("mj-bench"), tmp_path))
    assert [row["category"] for row in read] == ["alignment", "safety", "quality"]
    assert winner(read[0]) == (0, 0, 255)


def test_unknown_set_is_told_those_there_are():
    with pytest.raises(ValueError, match="there are geneval, dpg-bench"):
        load_prompt_set("gen-eval")


@pytest.mark.parametrize("name", [prompt_set.name for prompt_set in PROMPT_SETS])
def test_unreachable_set_says_what_to_download(name, monkeypatch):
    # what the tests run under; no set can be reached
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if (find_prompt_set(name).url or "").startswith("https://"):
        pytest.skip("would ask the network")
    with pytest.raises(FileNotFoundError, match="get "):
        load_prompt_set(name)


@pytest.fixture
def served(tmp_path):
    """The address at which the files of `tmp_path` can be fetched."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_set_behind_a_url_is_read_without_further_packages(tmp_path, served):
    write_csv(tmp_path / "dpg_bench.csv", [
        {"item_id": "a1", "text": "Two birds.", "proposition_id": "1", "category_broad": "entity"},
        {"item_id": "a1", "text": "Two birds.", "proposition_id": "2", "category_broad": "attribute"},
    ])  # fmt: skip
    rows = list(read_prompt_set(replace(find_prompt_set("dpg-bench"), url=f"{served}/dpg_bench.csv")))
    assert [row["prompt"] for row in rows] == ["Two birds."]


def test_a_set_whose_url_is_gone_says_what_to_download(served):
    with pytest.raises(FileNotFoundError, match=r"404 .*; get prompts/evaluation_metadata.jsonl of github.com"):
        list(read_prompt_set(replace(find_prompt_set("geneval"), url=f"{served}/evaluation_metadata.jsonl")))


def test_changed_columns_are_named(tmp_path):
    path = write_csv(tmp_path / "drawbench.csv", [{"text": "A red colored car."}])
    with pytest.raises(ValueError, match=r"has text and cannot be read .*; expected was csv: `Prompts`"):
        load_prompt_set("drawbench", path)


def test_a_set_is_named_where_a_dataset_is(tmp_path):
    path = write_csv(tmp_path / "drawbench.csv", [{"Prompts": "A red colored car.", "Category": "Colors"}])
    assert load_prompts("drawbench", data_files=[str(path)])["prompt"][:] == ["A red colored car."]
    assert [row["prompt"] for row in load_prompts("drawbench", streaming=True, data_files=str(path))] == [
        "A red colored car."
    ]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("mmrb2-t2i", {"prompt_text": "p", "response_a_images": [1], "response_b_images": [2], "chosen": "tie"}),
        (
            "editreward-bench",
            {"instruction": "p", "source_image": 0, "candidate_1": 1, "candidate_2": 2, "ranking": "C>A"},
        ),
        (
            "editreward-bench",
            {"instruction": "p", "source_image": 0, "candidate_1": 1, "candidate_2": 2, "ranking": "A"},
        ),
        ("mj-bench", {"caption": "p", "category": "quality", "image0": 1, "image1": 2, "label": 0.5}),
        ("genai-bench-t2i", {"prompt": "p", "left_image": 1, "right_image": 2, "vote_type": "left"}),
        (
            "vcreward-bench",
            {"instruction": "p", "source_image": "", "edited_images": [], "winner": "Tie", "task": "x"},
        ),
    ],
)
def test_a_label_that_is_not_known_is_no_label(name, row):
    with pytest.raises(KeyError):
        find_prompt_set(name).row(row)


def test_a_broken_picture_in_a_list_is_one_row_and_not_the_end(tmp_path):
    pictures = List(ImageFeature())
    columns = dict.fromkeys(("prompt_images", "response_a_images", "response_b_images"), pictures)
    columns |= {name: Value("string") for name in ("prompt_text", "chosen", "prompt_source")}
    row = {"prompt_text": "Edit it.", "prompt_images": [png("white")], "chosen": "A", "prompt_source": "x"}
    row |= {"response_a_images": [png("red")], "response_b_images": [png("blue")]}
    broken = row | {"response_a_images": [{"bytes": b"<svg>", "path": None}]}
    path = tmp_path / "edit.parquet"
    Dataset.from_list([broken, row], features=Features(columns)).to_parquet(path)
    sentence, pair = load_preferences(f"mmrb2-edit:{path}")
    assert sentence.startswith("Row 0: ")
    assert pair.winner == 0


@pytest.mark.parametrize("name", ["geneval2.jsonl", "drawbench.csv", "UGE_edit.json"])
def test_a_copy_that_an_editor_has_marked_is_read(tmp_path, name):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "1.jpg")
    row = {"prompt": "two dogs", "atom_count": 2, "vqa_list": [["Are there any dogs?", "Yes"]], "skills": ["object"]}
    content = {
        "geneval2.jsonl": json.dumps(row),
        "drawbench.csv": "Prompts,Category\ntwo dogs,Counting\n",
        "UGE_edit.json": json.dumps({"1": {"id": "1.jpg", "prompt": "two dogs"}}),
    }[name]
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    prompt_set = {"geneval2.jsonl": "geneval2", "drawbench.csv": "drawbench", "UGE_edit.json": "imgedit-uge"}[name]
    assert load_prompt_set(prompt_set, tmp_path / name)[0]["prompt"] == "two dogs"
