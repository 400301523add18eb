import random

import pytest

from arr_trl.rubrics import (
    Criterion,
    Provenance,
    Rubric,
    parse_markdown,
    parse_rubric_text,
    to_markdown,
    to_rubric_text,
)


RUBRIC = Rubric(
    name="photos, for the shop",
    version="3",
    criteria=[
        Criterion(text="Every object that the prompt names is there.", theme="Prompt", essential=True),
        Criterion(text="The objects stand where the prompt puts them.", theme="Prompt", weight=2.0),
        Criterion(text="Nothing is cut off."),
        Criterion(text="**All** hands have five fingers", theme="Anatomy", weight=0.37, essential=True),
        Criterion(text="Tip: the lid is closed (essential)", theme="Anatomy"),
        Criterion(text="A theme that comes again is one", theme="Prompt"),
    ],
)

# what Auto-Rubric's release writes
PUBLISHED = """Rubric 1:
Theme: Ensure the image shows every subject that the prompt names, with its attributes.
- Tip: Count the subjects before anything else.
- Tip: Check colors and materials,
  also of small parts.

Rubric 2:
Theme: Prioritize plausible anatomy.
- Tip: Hands have five fingers.
"""


def test_markdown_brings_everything_back_that_a_judge_reads():
    again = parse_markdown(to_markdown(RUBRIC))
    assert again == RUBRIC


def test_the_text_form_brings_criteria_themes_and_order_back():
    again = parse_rubric_text(to_rubric_text(RUBRIC), name=RUBRIC.name)
    assert again.criteria == RUBRIC.criteria


def test_the_published_form_is_read_and_written_unchanged():
    rubric = parse_rubric_text(PUBLISHED, name="published")
    assert [(c.theme, c.text) for c in rubric.criteria] == [
        (
            "Ensure the image shows every subject that the prompt names, with its attributes.",
            "Count the subjects before anything else.",
        ),
        (
            "Ensure the image shows every subject that the prompt names, with its attributes.",
            "Check colors and materials, also of small parts.",
        ),
        ("Prioritize plausible anatomy.", "Hands have five fingers."),
    ]
    assert to_rubric_text(rubric) == PUBLISHED.replace(",\n  also", ", also")


@pytest.mark.parametrize(
    ("text", "criteria"),
    [
        ("**Rubric 1:**\n**Theme:** A\n- **Tip 1:** b\n* Tip2: c\n• d", [("A", "b"), ("A", "c"), ("A", "d")]),
        ("Rubric 1: Theme: A\n- b", [("A", "b")]),
        ("Rubric 1: what is asked for is there\nRubric 2: nothing else is", ["what is asked for is there", "nothing else is"]),
        ("### Rubric 1\nTheme 1: A\nTip 1: b", [("A", "b")]),
        ("- just\n- two tips", ["just", "two tips"]),
    ],
)  # fmt: skip
def test_relatives_of_the_form_are_read(text, criteria):
    found = [(c.theme, c.text) for c in parse_rubric_text(text, name="r").criteria]
    assert found == [c if isinstance(c, tuple) else ("", c) for c in criteria]


def test_a_thousand_odd_rubrics_survive_every_form():
    draws = random.Random(0)
    words = [
        "Theme:", "Tip 1:", "Rubric 2:", "- a", "* b", "**c**", "1.", "(weight 2)", "(essential)", "(weight", "x)", "#",
        "##", "手", "|", "---", "Task: a · Version: 2", "(essential, weight 3)", "(weight nan)", "(weight -1)", "→",
        "(only if 1 is met)", "(only if",
    ]  # fmt: skip
    for _ in range(1000):
        criteria = [
            Criterion(
                text="w " + " ".join(draws.choices(words, k=draws.randint(1, 4))),
                theme=draws.choice(["", "A", "B: c", "(weight 2)", "手"]),
                weight=draws.choice([1.0, 1.0, 0.25, 3.5]),
                essential=draws.random() < 0.3,
                parent=draws.randint(1, number) if number and draws.random() < 0.2 else None,
            )
            for number in range(draws.randint(1, 5))
        ]
        rubric = Rubric(name="r", criteria=criteria)
        assert parse_markdown(to_markdown(rubric)) == rubric, to_markdown(rubric)
        assert parse_rubric_text(to_rubric_text(rubric), name="r") == rubric, to_rubric_text(rubric)
        assert Rubric.model_validate_json(rubric.to_json()) == rubric


def test_markdown_shows_where_a_rubric_comes_from_and_an_edited_one_does_not_claim_it():
    made = RUBRIC.model_copy(
        update={"provenance": Provenance(arr_trl="1", method="few-shot", writer="m", counts={"pairs": 100}, cv_accuracy=0.91)}
    )  # fmt: skip
    markdown = to_markdown(made)
    assert "| counts | pairs 100 |" in markdown
    edited = parse_markdown(markdown.replace("is there.", "is there, whole."))
    assert edited.provenance is None
    assert edited.criteria[0].text == "Every object that the prompt names is there, whole."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# r\n\nsome words\n", "Line 3 of the Markdown"),
        ("1. a criterion\n", "holds no rubric"),
        ("# r\n", "holds no rubric"),
    ],
)
def test_markdown_that_is_no_rubric_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_markdown(text)
