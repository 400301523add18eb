import json

import pytest

from arr_trl.chat import ChatReply
from arr_trl.judges import JudgeRow, RubricJudge
from arr_trl.judges.rubric_source import resolve_rubric
from arr_trl.rubrics import Criterion, Rubric, parse_rubric_text
from arr_trl.tiny_scenes.judge import TinyScenesJudge


TEXT = """
Rubric 1:
Theme: The image shows what the prompt names.
- Tip 1: Count the objects.
- Tip 2: Check colors,
  also of small parts.

**Rubric 2:**
Theme: Anatomy is plausible
- Hands have five fingers.

Rubric 3:
Theme: Nothing is cut off.
"""


def test_text_in_theme_and_tip_form_becomes_criteria():
    rubric = parse_rubric_text(TEXT, name="published")
    assert [(c.theme, c.text) for c in rubric.criteria] == [
        ("The image shows what the prompt names.", "Count the objects."),
        ("The image shows what the prompt names.", "Check colors, also of small parts."),
        ("Anatomy is plausible", "Hands have five fingers."),
        ("", "Nothing is cut off."),
    ]


def test_text_without_criteria_is_refused():
    with pytest.raises(ValueError, match="holds no criterion"):
        parse_rubric_text("Rubric 1:\n\n", name="empty")


def test_a_rubric_is_taken_from_an_object_a_json_file_and_a_text_file(tmp_path):
    rubric = Rubric(name="r", criteria=[Criterion(text="x")])
    rubric.save(tmp_path / "rubric.json")
    (tmp_path / "published.txt").write_text(TEXT)
    assert resolve_rubric(rubric) is rubric
    assert resolve_rubric(str(tmp_path / "rubric.json")) == rubric
    assert resolve_rubric(tmp_path / "published.txt").name == "published"
    assert resolve_rubric("auto") is None
    with pytest.raises(FileNotFoundError, match="There is no rubric file"):
        resolve_rubric(tmp_path / "other.json")


def test_a_rubric_is_taken_from_a_repository(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    rubric = Rubric(name="published", criteria=[Criterion(text="x")])
    repository = tmp_path / "models--user--rubric"
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    rubric.save(repository / "snapshots" / ("0" * 40) / "rubric.json")
    assert resolve_rubric("user/rubric") == rubric
    with pytest.raises(FileNotFoundError, match=r"no file user/other, and no `rubric\.json`"):
        resolve_rubric("user/other")


class WriterAndJudge(TinyScenesJudge):
    """Counts what it is asked; writes criteria as told."""

    def __init__(self, criteria=None):
        super().__init__()
        self.criteria = criteria
        self.asked_for_criteria = 0

    def complete(self, requests, on_reply=None):
        writes = [r for r in requests if len(r.messages[0]["content"]) == 1]
        self.asked_for_criteria += len(writes)
        if writes and self.criteria is not None:
            return [ChatReply(text=self.criteria) for _ in requests]
        return super().complete(requests)


@pytest.fixture
def row():
    import numpy as np

    from arr_trl.tiny_scenes.scenes import Caption, render

    texts = ("a red circle left of a blue square", "a green circle above a blue square")
    return JudgeRow(texts[0], tuple(render(Caption.parse(text), np.random.default_rng(0)) for text in texts))


def test_auto_writes_criteria_once_per_prompt_and_keeps_them(tmp_path, row):
    model = WriterAndJudge()
    judge = RubricJudge(rubric="auto", model=model, store=tmp_path / "judge.sqlite")
    (verdict, same_prompt) = judge.compare([row, JudgeRow(row.prompt, row.images[::-1])])
    assert (verdict.winner, same_prompt.winner) == (0, 1)
    assert model.asked_for_criteria == 1
    again = WriterAndJudge()
    RubricJudge(rubric="auto", model=again, store=tmp_path / "judge.sqlite").compare([row])
    assert again.asked_for_criteria == 0
    kept = [judge.store.rubric(a.rubric) for a in judge.store if a.images]
    assert "something red" in kept[0].criteria[0].text


def test_auto_sees_no_image_and_no_criteria_are_a_failure(row):
    model = WriterAndJudge(criteria=json.dumps({"criteria": []}))
    (verdict,) = RubricJudge(rubric="auto", model=model).compare([row])
    assert verdict.failure.startswith("There are no criteria for 'a red circle left of a blue square'")
    assert model.asked_for_criteria == 2  # and once more, with the error
