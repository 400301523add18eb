"""Presets from files and from the Hub: data alone, told in a sentence where it is wrong, and nothing of it runs."""

import json

import pytest
from PIL import Image

from arr_trl.chat import ChatReply
from arr_trl.judges import JudgeRow, Preset, PresetJudge, load_preset, preset_names, save_preset


PRESET = {
    "name": "posters",
    "version": "1",
    "combine": "mean",
    "scale": [0, 10],
    "asks": [
        {
            "name": "layout",
            "images": ["candidate"],
            "template": "{{ image('candidate') }} Made for: {{ prompt }}{{ hint }}",
            "read": {"numbers": ["text", "balance"], "low": 0, "high": 10},
        }
    ],
}
PAIR = {"images": ["first", "second"], "template": "{{ image('first') }}{{ image('second') }}"}
WINNER = {"winner": {"1": 0, "2": 1}}
LABELS = {"labels": {"Yes": 1, "No": 0}}
POSTER = Image.new("RGB", (16, 16), "red")


def changed(**settings):
    return {**PRESET, **settings}


def asking(**settings):
    return changed(asks=[{**PRESET["asks"][0], **settings}])


class Says:
    model, settings = "says", {}

    def __init__(self, text):
        self.text, self.requests = text, []

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        self.requests += requests
        return [ChatReply(text=self.text) for _ in requests]


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_of_the_package_survives_being_written(name, tmp_path):
    preset = load_preset(name)
    assert load_preset(save_preset(preset, tmp_path / "mine")) == preset
    assert load_preset(tmp_path / "mine") == preset
    assert all((tmp_path / "mine" / f"{ask.name}.jinja2").read_text() == ask.template for ask in preset.asks)


def test_templates_stand_in_the_file_or_beside_it(tmp_path):
    (tmp_path / "inline.json").write_text(json.dumps(PRESET))
    (tmp_path / "beside.json").write_text(json.dumps(asking(template="layout.jinja2")))
    (tmp_path / "layout.jinja2").write_text(PRESET["asks"][0]["template"])
    assert load_preset(tmp_path / "inline.json") == load_preset(str(tmp_path / "beside.json"))


def test_a_preset_is_taken_from_a_repository(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    repository = tmp_path / "models--user--judge"
    commit = repository / "snapshots" / ("0" * 40)
    commit.mkdir(parents=True)
    (commit / "preset.json").write_text(json.dumps(asking(template="layout.jinja2")))
    (commit / "layout.jinja2").write_text(PRESET["asks"][0]["template"])
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    assert load_preset("user/judge") == Preset.model_validate(PRESET)
    (commit / "layout.jinja2").unlink()
    with pytest.raises(FileNotFoundError, match=r"no `preset\.json` with its templates in a repository user/judge"):
        load_preset("user/judge")
    with pytest.raises(FileNotFoundError, match="There is no file user/other"):
        load_preset("user/other")


def test_a_template_of_another_folder_is_not_sent_to_a_server(tmp_path):
    (tmp_path / "secret.jinja2").write_text("{{ image('candidate') }} my secret")
    (tmp_path / "preset").mkdir()
    for template in ("../secret.jinja2", str(tmp_path / "secret.jinja2")):
        (tmp_path / "preset" / "preset.json").write_text(json.dumps(asking(template=template)))
        with pytest.raises(ValueError, match="has to stand beside it"):
            load_preset(tmp_path / "preset")


def test_a_template_runs_nothing(tmp_path):
    for template in (
        "{{ image('candidate') }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ image('candidate') }}{{ image.__globals__ }}",
        "{% include '/etc/passwd' %}{{ image('candidate') }}",
        "{{ image('candidate') }}{{ 1 / 0 }}",
        "{{ image('candidate') }}{{ range(10 ** 9) | list }}",
    ):
        (tmp_path / "preset.json").write_text(json.dumps(asking(template=template)))
        with pytest.raises(ValueError, match="the template of layout cannot be used"):
            load_preset(tmp_path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "is not a preset, which is a JSON object"),
        (changed(version=""), "`version`"),
        (changed(combine="exec"), "'exec' is not one of only, mean"),
        (changed(other=1), "`other`"),
        (changed(kind="pairwise"), "shows candidate"),
        (changed(task="image-editing"), "no question shows source"),
        (changed(combine="only"), "combine='only' is of one number, and layout reads several"),
        (changed(combine="editscore"), r"combine='editscore' is of 2 question\(s\)"),
        (changed(combine="winner"), "combine='winner' needs readers with 'winner'"),
        (changed(scale=[5, 1]), "`scale` has to be the worst and the best"),
        (changed(passes=3), "need a `temperature`"),
        (changed(asks=PRESET["asks"] * 2), "two questions have the same name"),
        (asking(read={"answer": 1}), "a reader has one of labels, expected, numbers"),
        (asking(read={"lines": {"A": [1, 5]}, "shares": True}), "are about a `pair` of lines"),
        (asking(read={"principles": ["Keep"]}), "a reader with `principles` is for `before`"),
        (changed(before={**PRESET["asks"][0], "read": {"principles": ["Keep"]}}), "and shows the source alone"),
        (asking(images=["candidate", "source"]), "the template of layout shows candidate, and `images` says candidate, source"),
        (asking(template="{{ image('other') }}"), "there is no image 'other'"),
        (asking(template="{{ image('candidate')"), "the template of layout cannot be used"),
        (asking(template="gone.jinja2"), "names the template gone.jinja2, which is not beside it"),
        (changed(kind="pairwise", asks=[{"name": "w", "read": LABELS, **PAIR}]), r"w reads numbers of 1 picture\(s\), and shows 2"),
        (changed(asks=[{**PRESET["asks"][0], "read": WINNER}]), r"layout reads numbers of 2 picture\(s\), and shows 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_told_before_anything_is_asked(tmp_path, data, words):
    (tmp_path / "preset.json").write_text(json.dumps(data))
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        load_preset(tmp_path / "preset.json")


@pytest.mark.parametrize(
    ("preset", "settings", "words"),
    [
        ("three-axis", {}, "has no weights of its own; give `model`"),
        ("editscore", {"model": Says(""), "base_url": "http://a:1/v1"}, "`base_url` belongs to a model given by name"),
        ("editscore", {"combine": "exec"}, "cannot have these settings: `combine`: 'exec' is not one of"),
        ("paco-edit", {"passes": 2}, "cannot have these settings: `passes` and `resample` need a `temperature`"),
        ("paco-edit", {"order": "any"}, "order='any' is not one of"),
        ("paco-edit", {"tie_margin": 1.5}, "tie_margin=1.5 is a difference of scores"),
        ("paco", {}, "did you mean paco-"),
    ],
)
def test_settings_that_do_not_fit_are_told(preset, settings, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        PresetJudge(preset, **settings)


@pytest.mark.parametrize(
    ("preset", "row", "words"),
    [
        (
            "paco-consistency",
            {},
            "Row 0 has no column 'grid', or nothing in it, which the preset paco-consistency needs",
        ),
        ("paco-consistency", {"columns": {"grid": [1, 1]}}, "has to be rows and columns of two and more pictures"),
        ("paco-consistency", {"columns": {"grid": "2x2"}}, "has to be rows and columns of two and more pictures"),
        ("paco-consistency", {"columns": {"grid": 4}}, "has to be rows and columns of two and more pictures"),
        ("reference-yes", {}, "Row 0 has no column 'reference_image'"),
        ("soft-tifa", {}, "Row 0 has no column 'vqa_list'"),
        ("soft-tifa", {"columns": {"vqa_list": []}}, "Row 0 has no column 'vqa_list', or nothing in it"),
        (
            "edit-expectation",
            {},
            "Row 0 has no `source_image`, which the preset edit-expectation needs: it judges edits",
        ),
        ("mj-pair", {}, r"Row 0 has 1 image\(s\); mj-pair needs 2"),
    ],
)
def test_a_row_without_what_a_preset_needs_is_refused_before_anything_is_asked(preset, row, words):
    judge = PresetJudge(preset, Says(""))
    with pytest.raises(ValueError, match=words):
        judge.compare([JudgeRow("a poster", (POSTER,), **row)])
    assert not judge.model.requests
    if "image(s)" not in words.replace("\\", ""):
        with pytest.raises(ValueError, match=words.replace("Row 0", "The dataset")):
            judge.check_first_row([{"prompt": "a poster", **row.get("columns", {})}])


def test_columns_stand_in_the_question_and_in_its_key(tmp_path):
    (tmp_path / "preset.json").write_text(json.dumps(PRESET))
    model = Says('{"score": [10, 5]}')
    judge = PresetJudge(tmp_path, model)
    columns = {"hint": ["!", "?", "?", None], "unused": [1, 2, 3, 4]}
    assert judge(["a poster"] * 4, [POSTER] * 4, num_generations=1, **columns) == [0.75] * 4
    texts = [request.messages[0]["content"][-1]["text"] for request in model.requests]
    assert texts == ["Made for: a poster!", "Made for: a poster?", "Made for: a poster"]


def test_pictures_are_made_as_large_as_the_preset_asks(tmp_path):
    rule = {"max_side": 64, "min_pixels": 1024, "max_pixels": 2048}
    (tmp_path / "preset.json").write_text(json.dumps(changed(image=rule)))
    model = Says('{"score": [10, 5]}')
    judge = PresetJudge(tmp_path, model)
    sizes = [(16, 16), (32, 64), (128, 64), (40, 40)]
    judge([""] * 4, [Image.new("RGB", size, (i, 0, 0)) for i, size in enumerate(sizes)], num_generations=1)
    shown = [request.messages[0]["content"][0]["image"].size for request in model.requests]
    assert shown == [(32, 32), (32, 64), (64, 32), (40, 40)]


def test_another_way_to_combine_is_another_score_of_the_same_answers(tmp_path):
    replies = {"mean": 0.75, "min": 0.5, "geometric_mean": 0.75}
    for combine, expected in replies.items():
        judge = PresetJudge(
            Preset.model_validate(PRESET), Says('{"score": [10, 5]}'), combine=combine, store=tmp_path / "j.db"
        )
        assert judge(["p"], [POSTER], num_generations=1) == [pytest.approx(expected)]
    assert len(judge.store) == 1
