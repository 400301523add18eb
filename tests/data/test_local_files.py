"""Prompt files as editors and spreadsheets save them."""

import pytest

from arr_trl.data import load_prompt_set, load_prompts


FILES = {
    "a.txt": "a café\na dog\n",
    "a.csv": "prompt,n\na café,1\na dog,2\n",
    "a.jsonl": '{"prompt": "a café"}\n{"prompt": "a dog"}\n',
    "a.json": '[{"prompt": "a café"}, {"prompt": "a dog"}]',
}
streamed = pytest.mark.parametrize("streaming", [False, True])


@streamed
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", FILES)
def test_the_mark_of_an_encoding_is_no_part_of_a_prompt(tmp_path, monkeypatch, name, encoding, streaming):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / name).write_bytes(FILES[name].encode(encoding))
    rows = list(load_prompts(str(tmp_path / name), streaming=streaming))
    assert [row["prompt"] for row in rows] == ["a café", "a dog"]


@streamed
@pytest.mark.parametrize("name", FILES)
def test_prompts_in_latin_1_are_refused_by_the_name_of_their_file(tmp_path, name, streaming):
    (tmp_path / name).write_bytes(FILES[name].encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{name} is no text in UTF-8: line [12] has the byte 0xe9"):
        load_prompts(str(tmp_path / name), streaming=streaming)
    with pytest.raises(ValueError, match=rf"{name} is no text in UTF-8"):
        load_prompts(str(tmp_path), streaming=streaming)


def test_a_character_that_two_chunks_share_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("arr_trl.data.local_files._CHUNK", 3)
    (tmp_path / "a.txt").write_text("手手手", encoding="utf-8")
    assert [row["prompt"] for row in load_prompts(str(tmp_path / "a.txt"))] == ["手手手"]


CSV = {
    "one unquoted comma in each": ("prompt\na cat, sitting\na dog, asleep\n", r"Row 0 of .*a\.csv, .* line 2, has 2 fields"),
    "one longer row": ("prompt,n\na cat,1\na dog, asleep,2\n", r"Row 1 of .*a\.csv, .* line 3, has 3 fields"),
    "a shorter row": ("prompt,n\na cat,1\na dog\n", "Row 1 of .* line 3, has 1 fields"),
    "after a text of two lines": ('prompt,n\n"a\ncat",1\n\na dog, asleep,2\n', "Row 1 of .* line 5, has 3 fields"),
    "a quotation mark": ('prompt,n\n"Stop" on a sign,1\n', r"beyond line 2 .* is doubled"),
    "an open quotation mark": ('prompt,n\n"a cat,1\na dog,2\n', r"cannot be read as csv"),
    "one name twice": ("prompt,prompt\na cat,a dog\n", r"a\.csv has the column 'prompt' twice"),
    "a header only": ("prompt\n", r"a\.csv is empty"),
}  # fmt: skip


@streamed
@pytest.mark.parametrize("case", CSV)
def test_csv_that_would_lose_a_part_of_its_prompts_is_refused(tmp_path, case, streaming):
    text, words = CSV[case]
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_prompts(str(tmp_path / "a.csv"), streaming=streaming)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Prompt\tCategory\na\tb\tX\nc\td\tY\n", r"Row 0 of .*a\.tsv, .* line 2, has 3 fields.* with a tab"),
        ("Prompt\tCategory\na\tX\nb\n", r"Row 1 of .*a\.tsv, .* line 3, has 1 fields"),
        ("Prompt\tCategory\tCategory\na\tX\tY\n", r"a\.tsv has the column 'Category' twice"),
        ("Prompt\tCategory\ncaf\xe9\tX\n", r"a\.tsv is no text in UTF-8"),
    ],
)
def test_tsv_whose_prompts_would_move_into_another_column_is_refused(tmp_path, text, words):
    (tmp_path / "a.tsv").write_text(text, encoding="latin-1")
    with pytest.raises(FileNotFoundError, match=words):
        load_prompt_set("parti-prompts", tmp_path / "a.tsv")


def test_csv_of_a_folder_of_a_pattern_and_of_a_format_is_checked_too(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("prompt\na cat, sitting\n")
    monkeypatch.chdir(tmp_path)
    for name, files in (
        (str(tmp_path), None),
        (str(tmp_path), "*.csv"),
        ("csv", "a.csv"),
        ("csv", [f"{tmp_path}/*.csv"]),
    ):
        with pytest.raises(ValueError, match=r"Row 0 of .*a\.csv"):
            load_prompts(name, data_files=files)  # fmt: skip


@streamed
def test_commas_marks_and_lines_in_quotation_marks_are_read(tmp_path, streaming):
    (tmp_path / "a.csv").write_text(
        'prompt,n\r\n"a cat, sitting",1\r\n"two\nlines",2\r\n"say ""hi""",3\r\n5" of snow,4\r\n'
    )
    rows = list(load_prompts(str(tmp_path / "a.csv"), streaming=streaming))
    assert [row["prompt"] for row in rows] == ["a cat, sitting", "two\nlines", 'say "hi"', '5" of snow']


def test_a_broken_file_is_named_when_it_is_streamed(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a cat"}\n{"prompt": "a d')
    with pytest.raises(ValueError, match=r"a\.jsonl cannot be read .*repair the file"):
        load_prompts(str(tmp_path / "a.jsonl"), streaming=True)
