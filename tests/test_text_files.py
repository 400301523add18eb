import pytest

from arr_trl.text_files import decode, lines_of, read_json, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
def test_text_is_the_same_in_every_encoding_that_an_editor_marks(tmp_path, encoding):
    text = "un café\r\n手\n"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (tmp_path / "a.txt").write_bytes(mark + text.encode(encoding))
    assert read_text(tmp_path / "a.txt") == text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "a\nun café\n".encode("latin-1"),
            r"notes\.txt is no text in UTF-8: line 2 has the byte 0xe9 .* save it as UTF-8",
        ),
        ("a\r\rb \x93".encode("latin-1"), "line 3 has the byte 0x93"),
        ("abc".encode("utf-16-le"), r"notes\.txt holds NUL characters, as UTF-16 without a mark"),
        (b"\xff\xfea", r"notes\.txt is no text in UTF-16"),
    ],
    ids=["latin-1", "cp1252", "utf-16 without a mark", "cut"],
)
def test_text_in_another_encoding_is_refused_by_the_name_of_its_file(content, words):
    with pytest.raises(ValueError, match=words) as refused:
        decode(content, "notes.txt")
    assert refused.value.__cause__ is None


def test_a_line_ends_where_an_editor_ends_it():
    assert lines_of("a\u2028b\x0cc\x85d\r\ne\rf\n") == ["a\u2028b\x0cc\x85d", "e", "f", ""]


def test_a_key_that_comes_twice_is_refused():
    assert read_json('{"a": {"b": 1}, "c": [{"b": 2}]}') == {"a": {"b": 1}, "c": [{"b": 2}]}
    with pytest.raises(ValueError, match="the key 'b' comes twice"):
        read_json('{"a": {"b": 1, "b": 2}}')
