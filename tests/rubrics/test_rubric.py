from arr_trl.rubrics import Criterion, Provenance, Rubric


RUBRIC = Rubric(name="r", criteria=[Criterion(text="Hands are whole.", theme="Anatomy")])
PROVENANCE = Provenance(
    arr_trl="0.1",
    method="few-shot",
    dataset="pairs.jsonl",
    writer="a",
    verifier="b",
    settings={"seed": 0},
    holdout={"with_rubric": {"accuracy": 0.9, "interval": [0.8, 0.95]}},
)


def test_where_a_rubric_comes_from_changes_nothing_for_judges():
    made = RUBRIC.model_copy(update={"provenance": PROVENANCE})
    assert made.content_hash == RUBRIC.content_hash
    assert made.render() == RUBRIC.render()


def test_a_file_keeps_provenance_and_one_written_by_hand_has_none(tmp_path):
    made = RUBRIC.model_copy(update={"provenance": PROVENANCE})
    made.save(tmp_path / "rubric.json")
    assert Rubric.load(tmp_path / "rubric.json") == made
    RUBRIC.save(tmp_path / "rubric.json")
    assert "provenance" not in (tmp_path / "rubric.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["rubric.json"]


def test_facts_are_flat_for_tables():
    facts = PROVENANCE.facts()
    assert facts["holdout"] == "with_rubric (accuracy 0.9, interval [0.8, 0.95])"
    assert "dataset_revision" not in facts


def test_a_criterion_is_one_line_for_the_judge():
    assert Criterion(text="Hands\n  are whole. ", theme="A\nB") == Criterion(text="Hands are whole.", theme="A B")


def test_a_rubric_with_provenance_can_be_a_key():
    made = RUBRIC.model_copy(update={"provenance": PROVENANCE})
    assert {made: 1}[Rubric.model_validate_json(made.to_json())] == 1
