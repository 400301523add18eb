"""Figures are those of the text that they were measured on."""

from arr_trl.rubrics import Criterion, Provenance, Rubric, to_markdown


MADE = Rubric(name="r", criteria=[Criterion(text="Two objects."), Criterion(text="Left of.")])
MADE = MADE.model_copy(
    update={
        "provenance": Provenance(
            arr_trl="0.1", method="few-shot", dataset="user/pairs", writer="w", counts={"pairs": 40}, dropped={"no": 2},
            holdout={"with_rubric": {"accuracy": 0.9125}}, cv_accuracy=0.8875, content_hash=MADE.content_hash,
        )
    }
)  # fmt: skip
EDITED = MADE.model_copy(update={"criteria": (Criterion(text="Three objects."),)})


def test_figures_of_the_text_before_are_neither_shown_nor_sent():
    assert not MADE.edited
    assert "0.9125" in to_markdown(MADE)
    assert EDITED.edited
    sent = EDITED.push_to_hub("user/r", dry_run=True).files
    for text in (to_markdown(EDITED), sent["README.md"], sent["rubric.json"]):
        assert "user/pairs" in text  # where it comes from stays
        for figure in ("0.9125", "0.8875", "pairs 40", '"pairs"', "no 2"):
            assert figure not in text, figure
    assert "edited" in to_markdown(EDITED)
    assert "| edited" not in to_markdown(MADE)
    # renamed, it is the same to a judge
    assert not MADE.model_copy(update={"name": "other", "version": "2"}).edited


def test_what_was_measured_of_this_text_is_shown_until_it_is_edited_again(tmp_path):
    figures = {"content_hash": EDITED.content_hash, "with_rubric": {"accuracy": 0.7775}}
    EDITED.measured(figures).save(tmp_path / "r.json")
    measured = Rubric.load(tmp_path / "r.json")
    assert "0.7775" in to_markdown(measured)
    again = measured.model_copy(update={"criteria": (Criterion(text="Four objects."),)})
    assert "0.7775" not in to_markdown(again)
    by_hand = Rubric(name="h", criteria=[Criterion(text="x")])
    assert not by_hand.edited
    by_hand = by_hand.measured({"content_hash": by_hand.content_hash, "with_rubric": {"accuracy": 0.6665}})
    assert "0.6665" in to_markdown(by_hand)


def test_a_rubric_that_says_no_hash_is_taken_for_what_was_made():
    old = MADE.model_copy(update={"provenance": MADE.provenance.model_copy(update={"content_hash": None})})
    assert not old.edited
    assert "0.9125" in to_markdown(old)
