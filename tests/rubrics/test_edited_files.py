"""Rubrics as people edit them: every line is understood, or refused by its number."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arr_trl.judges.rubric_source import resolve_rubric
from arr_trl.rubrics import Criterion, Rubric, parse_markdown, parse_rubric_text, to_markdown, to_rubric_text
from arr_trl.text_files import decode


@pytest.mark.parametrize(
    ("text", "criteria"),
    [
        ("1. Red is better.\n2. Nothing is cut off.\n- No text.", ["Red is better.", "Nothing is cut off.", "No text."]),
        ("- Red is better.\n2) No text.", ["Red is better.", "No text."]),
        ("Theme: x\n· a\n•b\n– c\n— d\n+ e\n* f\n● g\n(8) h\n9、i", [("x", c) for c in "abcdefghi"]),
        ("Theme：x\n- Tip：a\n**Theme**: y\n- b", [("x", "a"), ("y", "b")]),
        ("Theme: x\n- a\n\n---\n\nTheme: y\n- b", [("x", "a"), ("y", "b")]),
        ("- a\n\n* * *\n\n- b\n- - -\n- c\n_ _ _\n- d\n-  -\t-   -\n* e", ["a", "b", "c", "d", "e"]),
        ("- -5 degrees is fine\n- 5 fingers\n-Red is better\n1. 5 cats", ["-5 degrees is fine", "5 fingers", "Red is better", "5 cats"]),
        ("  Theme: x\n  - a\n    goes on\n", [("x", "a goes on")]),
        ("- a\rTheme: x\r- b\u2028- c\u2028  goes on", ["a", ("x", "b"), ("x", "c goes on")]),
    ],
)  # fmt: skip
def test_no_line_of_a_text_is_dropped_or_glued_to_its_neighbour(text, criteria):
    found = [(c.theme, c.text) for c in parse_rubric_text(text, name="r").criteria]
    assert found == [c if isinstance(c, tuple) else ("", c) for c in criteria]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Red is better.\n- No text.", 1),
        ("- Red is better.\nNo text.", 2),
        ("Theme: Colour\nred things\n- Red is better.", 2),
        ("- Red is better.\n- No text.\nOverall, be fair.", 3),
        ("主题：颜色\n- 红色", 1),
        ("Theme: A\n- a\n-\n- b", 3),
        ("Theme:\nTheme: B\n- b", 1),
        ("  - a\n  not indented more than its tip", 2),
        ("- a\n- b (weight 0)", 2),
        ("- a\n-5 degrees is fine", 2),
        ("Theme: x\n  –5 degrees is fine", 2),
        ("- a\n-.5 stops is fine", 2),
        ("1. a\n1．5 metres is fine", 2),
        ("- a\n- -\n- b", 2),
        ("- a\n* * b\n- ***", 3),
    ],
)
def test_a_line_of_a_text_that_is_not_understood_is_refused_by_its_number(text, number):
    with pytest.raises(ValueError, match=f"Line {number} of the rubric text r"):
        parse_rubric_text(text, name="r")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("# r\n\n1. A\n\n# s\n\n1. B\n", 5),
        ("# r\n\n1. A\n\n---\n\n2. B\n", 7),
        ("# r\n\nTask: text-to-image · Version: 1\n\nTask: image-editing · Version: 2\n\n1. A\n", 5),
        ("# r\n\n## Colour\n\n## Shape\n\n1. A\n", 5),
        ("# r\n\n1. A\n2. B (weight zero)\n", 4),
        ("# r\n\n1. A\nand more\n", 4),
    ],
    ids=["two titles", "below the rule", "two tasks", "empty theme", "weight", "prose"],
)
def test_a_line_of_markdown_that_is_not_understood_is_refused_by_its_number(text, number):
    with pytest.raises(ValueError, match=f"Line {number} of the Markdown"):
        parse_markdown(text)


def test_a_last_theme_without_criteria_is_refused():
    with pytest.raises(ValueError, match="theme in line 5 of the Markdown has no criteria"):
        parse_markdown("# r\n\n1. A\n\n## Shape\n")


@pytest.mark.parametrize(
    ("notes", "weight", "essential"),
    [
        ("(weight 2)", 2, False), ("(Weight 2)", 2, False), ("(weight: 3)", 3, False), ("(weight = .5)", 0.5, False),
        ("(weight 2, essential)", 2, True), ("(Essential, weight 2)", 2, True), ("（weight：4）", 4, False),
        ("（权重 2）", 2, False), ("（權重：2）", 2, False), ("（必要）", 1, True), ("（必要，权重 3）", 3, True), ("(weight2)", 2, False),
        ("(essential)", 1, True), ("(not essential)", 1, False), ("(WEIGHT 1e1)", 10, False),
    ],
)  # fmt: skip
def test_weights_are_read_in_every_spelling(notes, weight, essential):
    expected = Criterion(text="Red is better", weight=weight, essential=essential)
    assert parse_rubric_text(f"- Red is better {notes}", name="r").criteria == (expected,)
    assert parse_markdown(f"# r\n\n1. Red is better {notes}\n").criteria == (expected,)


@pytest.mark.parametrize(
    "line",
    [
        "A (weight 0)", "A (weight -1)", "A (weight 2,5)", "A (weight two)", "A (weight nan)", "A (2x weight)", "A [weight 2]",
        "(weight 2) A", "[Essential] A", "A (weight 2).", "A (essential) (weight 2)", "A (weight 2, weight 3)",
        "A {weight 2}", "A ｛weight 2｝", "A (w=2)", "A (w 2)", "A (wt: 2)", "A【权重 2】", "A（权重二）", "A（非必要）", "A (weight_2)", "（必要）A",
        "A (essential, important)", "Shows the bottle (essential oils)",
    ],
)  # fmt: skip
def test_a_weight_that_cannot_be_read_is_not_taken_for_1(line):
    with pytest.raises(ValueError, match=r"Line 1 of the rubric text r: .*could be its weight"):
        parse_rubric_text(f"- {line}", name="r")
    with pytest.raises(ValueError, match=r"Line 3 of the Markdown: .*could be its weight"):
        parse_markdown(f"# r\n\n1. {line}\n")


def test_brackets_that_belong_to_the_text_can_be_written():
    for text in ("Shows the bottle (essential oils)", "(weight 2) A", "A (essential)", "A (weight 0)"):
        for weight, essential in ((1.0, False), (2.0, True), (1.0, True)):
            rubric = Rubric(name="r", criteria=[Criterion(text=text, weight=weight, essential=essential)])
            assert parse_rubric_text(to_rubric_text(rubric), name="r") == rubric
            assert parse_markdown(to_markdown(rubric)) == rubric


def test_brackets_in_the_middle_and_about_other_things_are_text():
    for text in (
        "A (W 3rd street) sign",
        "The weightless (weightlessly drawn) one",
        "The set {w, h}",
        "A cat (w. 2 hats)",
        "A cat (w 2 hats)",
        "The (heavy) one is below",
        "Red (as the prompt says)",
        "An essential (red) part",
    ):
        assert parse_rubric_text(f"- {text}", name="r").criteria == (Criterion(text=text),)


def test_criteria_that_say_the_same_are_told(tmp_path):
    (tmp_path / "r.txt").write_text("- Red is better.\n- No text.\n- red is better\n")
    with pytest.warns(UserWarning, match="Criteria 1 and 3 of the rubric r say the same"):
        resolve_rubric(tmp_path / "r.txt")


def test_a_weight_behind_a_theme_is_told(tmp_path):
    (tmp_path / "r.txt").write_text("Theme: Colour (weight 2)\n- Red is better.\n")
    with pytest.warns(UserWarning, match=r"theme 'Colour \(weight 2\)' of the rubric r gives its criteria no weight"):
        resolve_rubric(tmp_path / "r.txt")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.txt", "- Red is better.\n- No text.\n"),
        ("r.md", "# r\n\n1. Red is better.\n2. No text.\n"),
        ("r.json", '{"name": "r", "criteria": [{"text": "Red is better."}, {"text": "No text."}]}'),
    ],
)
def test_the_first_criterion_survives_the_mark_of_an_encoding(tmp_path, name, text, encoding):
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert resolve_rubric(tmp_path / name) == Rubric(
        name="r", criteria=[Criterion(text="Red is better."), Criterion(text="No text.")]
    )


@pytest.mark.parametrize("name", ["r.txt", "r.md", "r.json"])
def test_a_rubric_in_latin_1_is_refused_by_its_name(tmp_path, name):
    (tmp_path / name).write_bytes("- un café".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{name} is no text in UTF-8: line 1 has the byte 0xe9"):
        resolve_rubric(tmp_path / name)


def test_a_weight_that_is_true_is_not_taken_for_1(tmp_path):
    (tmp_path / "r.json").write_text('{"name": "r", "criteria": [{"text": "a", "weight": true}]}')
    with pytest.raises(ValueError, match=r"`criteria\S*weight`: .*a weight is a number above 0"):
        resolve_rubric(tmp_path / "r.json")


def test_a_rubric_nested_too_deeply_is_refused_by_its_name(tmp_path):
    (tmp_path / "r.json").write_text('{"name": "r", "criteria": ' + "[" * 10**5)
    with pytest.raises(ValueError, match=r"r\.json is not valid JSON: it is nested too deeply"):
        resolve_rubric(tmp_path / "r.json")


def test_a_list_of_criteria_that_comes_twice_is_refused(tmp_path):
    (tmp_path / "r.json").write_text('{"name": "r", "criteria": [{"text": "a"}], "criteria": [{"text": "b"}]}')
    with pytest.raises(ValueError, match=r"r\.json is not valid JSON: the key 'criteria' comes twice"):
        resolve_rubric(tmp_path / "r.json")


# what lines begin with that a text and a Markdown file may have, what others begin with, and how lines end
OF_TEXT = [
    "- ",
    "* ",
    "+ ",
    "1. ",
    "12) ",
    "(3) ",
    "· ",
    "•",
    "—",
    "Theme: ",
    "theme：",
    "**Theme:** ",
    "- Tip 2: ",
    "Rubric 1: ",
]
OF_MARKDOWN = ["1. ", "1. ", "2. ", "10. ", "## "]
ODD = [
    "", "-", "*", "**", "4.", "Tip: ", "Rubric:", "Rubric 2", "# ", "## ", "### ", "  ", "      ", "\t", "---", "> ", "| ", "[x] ",
    "Task: text-to-image · Version: ", "主题：", "①", "\ufeff", "{", "(weight 2) ", "- 1. ", "Theme: - ",
]  # fmt: skip
ENDS = [
    "",
    "",
    "",
    "",
    ".",
    " (weight 2)",
    " (Weight: 3)",
    " (weight 2, essential)",
    " (essential)",
    " (weight",
    " (a)",
    " |",
    "：",
]
BAD_ENDS = [" (weight 0)", " [weight 2]", " (weight 2).", " (essential) (weight 2)"]
BREAKS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n", "\u2028", "\x0c"])


def a_file(marks):
    good = st.tuples(st.sampled_from(marks), st.just(True), st.sampled_from(ENDS), BREAKS)
    odd = st.tuples(st.sampled_from(ODD + marks), st.booleans(), st.sampled_from(ENDS + BAD_ENDS), BREAKS)
    return st.tuples(st.lists(good, max_size=4), st.lists(odd, max_size=1), st.lists(good, max_size=4)).map(
        lambda parts: [*parts[0], *parts[1], *parts[2]]
    )


def written(lines):
    """A text, and the words that each of its lines has to be found by."""
    words = [f"w{i}q" if named else "" for i, (_, named, _, _) in enumerate(lines)]
    text = "".join(mark + word + end + brk for word, (mark, _, end, brk) in zip(words, lines, strict=True))
    return text, [word for word in words if word]


def lost(rubric, words):
    """The words that do not stand in the rubric once."""
    themes = dict.fromkeys(c.theme for c in rubric.criteria)
    found = " ".join([rubric.name, rubric.version, *themes, *(c.text for c in rubric.criteria)])
    return [word for word in words if found.count(word) != 1]


def holds_a_weight(rubric):
    return any("weight" in c.text or "essential" in c.text for c in rubric.criteria if c.text.endswith((")", "]")))


FUZZ = settings(derandomize=True, database=None, max_examples=300, deadline=None)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])


@FUZZ
@given(lines=a_file(OF_TEXT), encoding=ENCODINGS)
def test_every_line_of_any_text_is_in_the_rubric_or_refused(lines, encoding):
    text, words = written(lines)
    try:
        rubric = parse_rubric_text(decode(text.encode(encoding), "r"), name="r")
    except ValueError:
        return
    assert not lost(rubric, words)
    assert not holds_a_weight(rubric)


@FUZZ
@given(lines=a_file(OF_MARKDOWN), encoding=ENCODINGS)
def test_every_line_of_any_markdown_is_in_the_rubric_or_refused(lines, encoding):
    text, words = written(lines)
    text = decode(f"# title\n\n{text}".encode(encoding), "r")
    try:
        rubric = parse_markdown(text)
    except ValueError:
        return
    # the table below a rule, which says where a rubric comes from, is told not to be read
    assert not lost(rubric, [word for word in words if not a_cell(text, word)])
    assert not holds_a_weight(rubric)


def a_cell(text, word):
    return any(word in line and line.strip().startswith("|") for line in text.splitlines())


@settings(derandomize=True, database=None, max_examples=100, deadline=None)
@given(text=st.text(max_size=60), before=st.sampled_from(["- a\n", "Theme: a\n", "# r\n\n1. a\n", ""]))
def test_any_characters_are_read_or_refused(text, before):
    for read in (lambda text: parse_rubric_text(text, name="r"), parse_markdown):
        try:
            rubric = read(f"{before}{text} w1q")
        except ValueError:
            continue
        assert "w1q" in rubric.to_json()
