"""What of a source was to be drawn anew is shown to whoever judges the edit, and to nobody who is not shown the source."""

import json

import pytest
from PIL import Image

from arr_trl.autorubric.config import AutoRubricConfig
from arr_trl.autorubric.generate import generate_questions
from arr_trl.autorubric.writer import Writer
from arr_trl.chat import ChatReply
from arr_trl.data.preferences import Preference
from arr_trl.judges import (
    EnsembleJudge,
    JudgeRow,
    PresetJudge,
    RubricJudge,
    ScorerJudge,
    TournamentJudge,
    VerdictStore,
    load_preset,
    preset_names,
    rubric_judge,
)
from arr_trl.judges.masks import NOTES
from arr_trl.rubrics import Criterion, Rubric


RED, BLUE, GRAY = (Image.new("RGB", (16, 16), color) for color in ("red", "blue", "gray"))
RUBRIC = Rubric(name="r", criteria=[Criterion(text="It is red.")], task="image-editing")
COLUMNS = {"grid": [2, 2], "reference_image": BLUE, "vqa_list": [["Is it red?", "Yes"]]}


def left(share, width=16, height=16, mode="L"):
    """A mask whose left part is white."""
    mask = Image.new(mode, (width, height), 0)
    mask.paste(255 if mode == "L" else (250, 255, 252), (0, 0, round(width * share), height))
    return mask


def row(mask=None, source=GRAY, images=(RED, BLUE), **columns):
    return JudgeRow("a", images, source, columns=columns | ({} if mask is None else {"mask_image": mask}))


class Silent:
    """A chat model that answers nothing of use and keeps what it was asked."""

    model, settings = "silent", {}

    def __init__(self):
        self.requests = []

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        self.requests += requests
        return [ChatReply(text="nothing") for _ in requests]


def asked(judge, rows):
    """The first requests of a judge, as texts and pictures in their order, and the keys of its questions."""
    judge.model.requests.clear()
    judge.compare(rows)
    seen = [
        [part.get("text") or part["image"] for m in request.messages[:2] for part in m["content"]]
        for request in judge.model.requests
        if request.messages[-1]["role"] == "user" and len(request.messages) <= 2
    ]
    return seen, [answer.key for answer in judge.store]


def judge_of(**settings):
    return RubricJudge(RUBRIC, Silent(), max_failure_rate=None, **settings)


def pictures(parts):
    return [part for part in parts if isinstance(part, Image.Image)]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("mode", ["ranks", "choice", "pointwise"])
def test_a_judge_under_a_rubric_sees_the_mask_behind_source_and_candidates(mode, language):
    plain, _ = asked(judge_of(mode=mode, language=language), [row()])
    masked, _ = asked(judge_of(mode=mode, language=language), [row(left(0.5))])
    assert len(masked) == len(plain)
    for before, after in zip(plain, masked, strict=True):
        *shown, mask = pictures(after)
        assert shown == pictures(before)  # the source as it was
        assert (mask.mode, mask.size) == ("RGB", GRAY.size)
        assert [mask.getpixel((x, 8)) for x in (0, 7, 8, 15)] == [(255,) * 3] * 2 + [(0,) * 3] * 2
        place = after.index(NOTES[language])
        assert after[place + 1] is mask
        assert after[:place] + after[place + 2 :] == before  # every word that was asked without one
        assert isinstance(after[-1], str)  # how to answer is the last that is read


@pytest.mark.parametrize("name", [name for name in preset_names() if load_preset(name).task == "image-editing"])
def test_a_preset_that_edits_sees_the_mask_wherever_it_sees_the_source(name):
    preset = load_preset(name)
    images = (RED, BLUE) if preset.kind == "pairwise" else (RED,)
    plain, masked = (
        asked(PresetJudge(name, Silent(), max_failure_rate=None), [row(mask, images=images, **COLUMNS)])[0]
        for mask in (None, left(0.5))
    )
    assert len(plain) == len(masked) > 0
    seen = 0
    for before, after in zip(plain, masked, strict=True):
        if not any(picture.getpixel((0, 0)) == (128,) * 3 for picture in pictures(before)):
            assert after == before  # it is asked about the candidate alone
            continue
        seen += 1
        # behind the last picture: what the published words call the first and the second stays that
        assert [picture.tobytes() for picture in pictures(after)[:-1]] == [p.tobytes() for p in pictures(before)]
        place = after.index(NOTES["en"])
        assert after[place + 1] is pictures(after)[-1]
        assert [part for part in after[:place] + after[place + 2 :] if isinstance(part, str)] == [
            part for part in before if isinstance(part, str)
        ]
    assert seen


def test_principles_that_are_written_before_there_are_candidates_see_the_mask():
    seen, _ = asked(PresetJudge("edit-rrm", Silent(), max_failure_rate=None), [row(left(0.5), images=(RED,))])
    assert len(pictures(seen[0])) == 2  # source and mask


@pytest.mark.parametrize("judge", [
    lambda: judge_of(), lambda: judge_of(mode="choice"), lambda: judge_of(mode="pointwise"),
    lambda: PresetJudge("unifiedreward-edit-pair", Silent(), max_failure_rate=None),
])  # fmt: skip
def test_rows_that_differ_in_their_masks_alone_share_no_verdict(judge):
    keys = {mask: asked(judge(), [row(mask and left(mask))])[1] for mask in (None, 0.25, 0.5)}
    assert all(keys.values())
    assert len({key for some in keys.values() for key in some}) == sum(map(len, keys.values()))
    # and one mask is one mask, whatever it is kept as
    for same in (left(0.5, mode="RGB"), left(0.5, 32, 8)):
        assert asked(judge(), [row(same)])[1] == keys[0.5]


def test_stores_from_before_there_were_masks_answer_rows_without_one(monkeypatch):
    monkeypatch.setattr(rubric_judge, "template_id", lambda name: name)
    assert sorted(asked(judge_of(), [row()])[1]) == KEYS
    assert sorted(asked(judge_of(), [row(vqa_list=[["Is it red?", "Yes"]])])[1]) == KEYS


KEYS = ["9d5c68afa4e1ce535c352c2851ac96b9", "a3c4658c0a29d663c58bcecfe59bb791"]


def test_a_mask_without_its_one_source_is_shown_to_nobody():
    text_to_image = RubricJudge(
        RUBRIC.model_copy(update={"task": "text-to-image"}), Silent(), max_failure_rate=None
    )  # fmt: skip
    for judge, source in ((text_to_image, None), (judge_of(), [GRAY, RED])):
        plain, masked = (asked(judge, [row(mask, source)]) for mask in (None, left(0.5)))
        assert masked == (plain[0] and masked[0], plain[1])
        assert all(NOTES["en"] not in parts for parts in masked[0])


def test_judges_that_ask_others_hand_the_mask_on():
    first, second = judge_of(), judge_of(mode="pointwise")
    EnsembleJudge([first, second], max_failure_rate=None).compare([row(left(0.5))])
    for judge in (first, second):
        assert all(
            NOTES["en"] in json.dumps([p for p in r.messages[0]["content"] if "text" in p])
            for r in judge.model.requests
        )
    tournament = judge_of()
    TournamentJudge(tournament).compare([row(left(0.5), images=(RED, BLUE, GRAY))])
    assert all(len(request.messages[0]["content"]) == 9 for request in tournament.model.requests[:6])


def test_a_rehearsal_shows_the_mask_of_the_row():
    judge = judge_of()
    judge.rehearse(row(left(0.5)))
    assert NOTES["en"] in [part.get("text") for part in judge.model.requests[0].messages[0]["content"]]


def test_a_scorer_gets_masks_beside_sources():
    given = {}

    class Kept:
        __name__ = "kept"

        def __call__(self, prompts, images, **columns):
            given.update(columns)
            return [0.0] * len(images)

    ScorerJudge(Kept()).compare([row(left(0.5)), row()])
    assert [mask and mask.getpixel((0, 0)) for mask in given["mask_image"]] == [(255,) * 3] * 2 + [None] * 2
    given.clear()
    ScorerJudge(Kept()).compare([row()])
    assert list(given) == ["source_image"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_who_writes_a_rubric_sees_the_mask_of_a_pair(language):
    writer = Writer(Silent(), VerdictStore(), language, 100, 0.0)
    plain, masked, other = generate_questions(
        [Preference("a", (RED, BLUE), 0, GRAY, mask_image=mask) for mask in (None, left(0.5), left(0.25))],
        writer,
        AutoRubricConfig(),
    )
    parts = masked.request().messages[0]["content"]
    place = [part.get("text") for part in parts].index(NOTES[language])
    assert parts[place + 1]["image"].getpixel((0, 0)) == (255,) * 3
    assert len({question.blank.key for question in (plain, masked, other)}) == 3


def test_a_mask_that_is_none_is_told():
    with pytest.raises(ValueError, match="2 masks where one should be"):
        judge_of().compare([row([left(0.5), left(0.5)])])
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        judge_of().compare([row("nowhere.png")])
