"""Rich pairs: what each stage asks, drops and keeps."""

import json
from collections import Counter

import pytest
from PIL import Image
from stub_painter import StubPainter, edited, with_faults

from arr_trl.chat import ChatFailure, ChatReply
from arr_trl.judges import RubricJudge, VerdictStore
from arr_trl.judges.masks import NOTES
from arr_trl.pairs import PairsError, RichPairs, RichPairsConfig
from arr_trl.pairs.outcome import dropped_by_reason
from arr_trl.pairs.rich import writer
from arr_trl.pairs.rows import rich_row
from arr_trl.tiny_scenes import TinyScenesJudge, captions, edit_prompts
from arr_trl.tiny_scenes.judge import zero_shot_rubric


ROWS = [{"prompt": prompt} for prompt in captions("train")[:24]]


class Asked:
    """A chat model that counts what it is asked, answers as `reply` says, and may be interrupted."""

    settings = {}
    model = "asked"

    def __init__(self, reply=lambda name, request: None, stop_after=None):
        self.inner, self.reply, self.stop_after = TinyScenesJudge(), reply, stop_after
        self.asked = Counter()

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        replies = []
        for i, request in enumerate(requests):
            if sum(self.asked.values()) == self.stop_after:
                raise KeyboardInterrupt
            texts = [part["text"] for m in request.messages for part in m["content"] if part["type"] == "text"]
            images = [p["image"].tobytes() for m in request.messages for p in m["content"] if p["type"] == "image"]
            self.asked[(json.dumps(texts), *images)] += 1
            name = next(iter(request.json_schema["properties"]))
            reply = self.reply(name, request)
            if reply is None:
                (reply,) = self.inner.complete([request])
            elif not isinstance(reply, ChatReply):
                reply = ChatReply(text=json.dumps(reply))
            replies.append(reply)
            if on_reply is not None:
                on_reply(i, reply)
        return replies


def fault(**others):
    return {"what": "It is wrong.", "where": "there", "kind": "wrong", "severity": 3} | others


def edit(instruction, **others):
    return {"instruction": instruction, "fault": 1, "keeps": "", "confidence": 1.0} | others


def make(folder, model, make_edit=edited, rows=ROWS, make_sample=with_faults, again=False, **settings):
    config = RichPairsConfig(**{"prompts_at_once": 8, "min_edited_wins": 0.0} | settings)
    store = VerdictStore(folder / "answers.sqlite")
    judge = RubricJudge(zero_shot_rubric(), model, store=folder / "answers.sqlite")
    painter = StubPainter(folder / "samples", make_sample, editing=again)
    editor = StubPainter(folder / "edits", make_edit, editing=True)
    words = writer(model, store, config)
    pairs = RichPairs(painter, editor, words, words, judge, config)
    return pairs, [outcome for block in pairs.write(rows) for outcome in block]


def test_a_good_editor_wins_and_rows_say_what_was_wrong_with_the_other_picture(tmp_path):
    pairs, outcomes = make(tmp_path, Asked())
    made = [outcome for outcome in outcomes if outcome.made]
    assert len(outcomes) == len(ROWS)
    assert len(made) >= 10
    assert sum(outcome.verdict.winner for outcome in made) >= 0.9 * len(made)
    row = rich_row(next(o for o in made if o.verdict.winner == 1), pairs.judge, pairs.painter, pairs.editor)
    assert row["label_rank"] == [2.0, 1.0]
    assert row["rationale"].startswith("Of the other picture: ")
    assert row["images"][1]["bytes"] != row["images"][0]["bytes"]
    assert row["instruction"].split()[0] in ("make", "turn", "remove", "move")
    assert (row["judge"], row["rubric"]) == ("asked", zero_shot_rubric().content_hash)


def test_an_edit_that_loses_is_a_pair_whose_rationale_is_not_the_faults(tmp_path):
    def worse(prompt, source, seed):
        after = source.copy()
        after.paste((40, 80, 220), (0, 0, 9, 9))
        after.paste((243, 242, 238), (10, 10, 32, 24))
        return after

    pairs, outcomes = make(tmp_path, Asked(), worse)
    lost = [outcome for outcome in outcomes if outcome.made and outcome.verdict.winner == 0]
    assert lost
    row = rich_row(lost[0], pairs.judge, pairs.painter, pairs.editor)
    assert row["label_rank"] == [1.0, 2.0]
    assert "Of the other picture" not in row["rationale"]


def test_an_editor_that_makes_pictures_worse_stops_the_run(tmp_path):
    def blank(prompt, source, seed):
        return Image.blend(source, Image.new("RGB", source.size, (243, 242, 238)), 0.9)

    with pytest.raises(PairsError, match=r"won 0 of \d+ decided pairs.*stub makes pictures worse"):
        make(tmp_path, Asked(), blank, min_edited_wins=0.6, min_decided=5)


def test_a_share_of_0_never_stops(tmp_path):
    def blank(prompt, source, seed):
        return Image.blend(source, Image.new("RGB", source.size, (243, 242, 238)), 0.9)

    _, outcomes = make(tmp_path, Asked(), blank, min_decided=1)
    assert sum(outcome.made for outcome in outcomes) > 5


@pytest.mark.parametrize(("reply", "make_edit", "reason"), [
    ({"faults": {"faults": []}}, edited, "no fault that matters"),
    ({"faults": {"faults": [fault(severity=1)]}}, edited, "no fault that matters"),
    ({"edits": {"edits": []}}, edited, "nothing that an editor could mend"),
    ({"edits": {"edits": [edit("make it so", confidence=0.4)]}}, edited, "no change worth asking for"),
    ({"edits": {"edits": [edit("please " * 61)]}}, edited, "no change worth asking for"),
    ({"edits": {"edits": [edit("prompt")]}}, edited, "no change worth asking for"),
    ({"edits": {"edits": [edit("do it")]}}, lambda prompt, source, seed: source.copy(), "edit changed nothing"),
    ({"faults": {"faults": [fault()]}, "edits": {"edits": [edit("do it")]}},
     lambda prompt, source, seed: Image.new("RGB", source.size, (9, 9, 9)), "edit changed too much"),
    ({"faults": ChatReply(failure=ChatFailure("refusal", "No."))}, edited, "no critique"),
    ({"edits": {"edits": [edit("do it", fault=9)]}}, edited, "no instruction"),
])  # fmt: skip
def test_each_filter_says_why(tmp_path, reply, make_edit, reason):
    def said(name, request):
        answer = reply.get(name)
        if answer == {"edits": [edit("prompt")]}:
            texts = [p["text"] for p in request.messages[0]["content"] if p["type"] == "text"]
            caption = next(t for t in texts[0].splitlines() if t.startswith("Caption: ")).removeprefix("Caption: ")
            return {"edits": [edit(f"Draw {caption.upper()} again.")]}
        return answer

    _, outcomes = make(tmp_path, Asked(said), make_edit, ROWS[:8], max_failure_rate=1.0)
    assert set(dropped_by_reason(outcomes)) - {"no fault that matters"} <= {reason}
    assert dropped_by_reason(outcomes)[reason]
    assert not any(outcome.made for outcome in outcomes)


def test_a_fault_of_the_whole_picture_may_change_all_of_it(tmp_path):
    said = {"faults": {"faults": [fault(kind="quality")]}, "edits": {"edits": [edit("do it")]}}
    _, outcomes = make(
        tmp_path, Asked(lambda name, request: said.get(name)),
        lambda prompt, source, seed: Image.new("RGB", source.size, (9, 9, 9)), ROWS[:4],
    )  # fmt: skip
    assert "edit changed too much" not in dropped_by_reason(outcomes)


def test_edits_are_joined_into_one_instruction_and_the_best_known_faults_are_mended(tmp_path):
    told = []

    def editing(prompt, source, seed):
        told.append(prompt)
        return edited("remove the red circle", source, seed)

    said = {
        "faults": {"faults": [fault(severity=1), fault(what="One."), fault(what="Two.")]},
        "edits": {"edits": [edit("Make it red.", fault=2), edit("Remove  the rest."), edit("Guess.", confidence=0.1)]},
    }
    _, outcomes = make(tmp_path, Asked(lambda name, request: said.get(name)), editing, ROWS[:1])
    assert told == ["Make it red. Remove the rest"]
    assert [one.what for one in outcomes[0].mended] == ["Two.", "One."]  # numbers are those of what was listed
    assert len(outcomes[0].faults) == 3


def test_several_edits_of_a_sample_are_pairs_of_their_own(tmp_path):
    _, outcomes = make(tmp_path, Asked(), rows=ROWS[:8], samples_per_prompt=2, edits_per_sample=2)
    of_prompt = Counter(outcome.prompt for outcome in outcomes if outcome.instruction)
    assert set(of_prompt.values()) <= {2, 4}
    made = [outcome for outcome in outcomes if outcome.made]
    assert len({tuple(outcome.seeds) for outcome in made}) == len(made)


def test_a_prompt_that_comes_twice_is_looked_at_once(tmp_path):
    _, outcomes = make(tmp_path, Asked(), rows=ROWS[:3] * 4)
    assert len(outcomes) == 3


def test_a_model_that_does_not_answer_stops_the_run_with_what_it_said(tmp_path):
    broken = Asked(lambda name, request: ChatReply(failure=ChatFailure("server", "It is down.")))
    with pytest.raises(PairsError, match=r"8 of 8 questions got no answer in the stage .critique"):
        make(tmp_path, broken)


def test_interrupted_anywhere_it_ends_alike_and_asks_and_draws_nothing_twice(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = Asked()
    _, outcomes = make(tmp_path / "whole", whole)
    wanted = [(o.prompt, o.reason, o.instruction, o.seeds, o.verdict) for o in outcomes]
    assert set(whole.asked.values()) == {1}
    (tmp_path / "stopped").mkdir()
    asked, runs = Counter(), 0
    while True:
        model = Asked(stop_after=None if runs == 6 else 9)
        try:
            pairs, outcomes = make(tmp_path / "stopped", model)
            break
        except KeyboardInterrupt:
            runs += 1
        finally:
            asked += model.asked
    assert runs == 6
    assert [(o.prompt, o.reason, o.instruction, o.seeds, o.verdict) for o in outcomes] == wanted
    assert asked == whole.asked
    assert len(pairs.painter.drawn) < len(ROWS)


def test_an_editing_model_is_asked_again_for_the_source(tmp_path):
    rows = list(edit_prompts("train[:8]"))
    seen = []

    def noting(prompt, source, seed):
        seen.append((prompt, source.tobytes()))
        return edited(prompt, source, seed)

    def untouched(prompt, source, seed):
        after = source.copy()
        after.paste((40, 170, 70), (14, 14, 19, 19))  # something stray, and nothing is done
        return after

    _, outcomes = make(tmp_path, Asked(), noting, rows, untouched, again=True)
    assert {one.tobytes() for row in rows for one in [row["source_image"]]} >= {source for _, source in seen}
    assert [prompt for prompt, _ in seen] == [row["prompt"] for row in rows]
    assert all(outcome.source is not None for outcome in outcomes)


def test_a_model_that_draws_and_edits_does_each_where_the_row_asks_for_it(tmp_path):
    with_source = {
        "prompt": edit_prompts("train[:1]")[0]["prompt"],
        "source_image": Image.new("RGB", (32, 32), "gray"),
    }
    rows = [ROWS[0], with_source | {"mask_image": Image.new("L", (8, 8), 255)}]
    drawn, edited_from = [], []

    def sample(prompt, source, seed):
        drawn.append((prompt, source))
        return Image.new("RGB", (32, 32), "red")

    def edit_of(prompt, source, seed):
        edited_from.append(source.getpixel((0, 0)))
        return Image.new("RGB", (32, 32), "blue")

    def reply(name, request):
        if name == "faults":
            return {"faults": [fault(where="")]}
        return {"edits": [edit("Make it blue")]} if name == "edits" else None

    config = RichPairsConfig(min_edited_wins=0.0, max_changed_share=1.0)
    model, store = Asked(reply), VerdictStore()
    painter = StubPainter(tmp_path / "samples", sample, may_edit=True)
    words = writer(model, store, config)
    pairs = RichPairs(painter, painter, words, words, RubricJudge(zero_shot_rubric(), model), config)
    painter.make = lambda prompt, source, seed: (edit_of if prompt == "Make it blue" else sample)(prompt, source, seed)
    (outcomes,) = pairs.write(rows)
    assert [source is not None for _, source in drawn] == [False, True]
    assert edited_from == [(255, 0, 0), (128, 128, 128)]  # its own picture, and the source again
    assert [outcome.mask is not None for outcome in outcomes] == [False, True]
    # who finds faults, who says how to mend them, and who judges: each is asked about both rows
    asked = [NOTES["en"] in json.loads(texts) for texts, *_ in model.asked]
    assert asked.count(False) == 4
    assert asked.count(True) >= 4  # once more where a reply was no answer


def test_an_editor_of_masked_parts_is_no_editor_of_pictures_that_were_drawn(tmp_path):
    words = writer(TinyScenesJudge(), VerdictStore(), RichPairsConfig())
    judge = RubricJudge(zero_shot_rubric(), TinyScenesJudge())
    painter = StubPainter(tmp_path / "a", with_faults)
    inpainting = StubPainter(tmp_path / "b", edited, editing=True, needs_mask=True)
    with pytest.raises(ValueError, match="draws what is white in a mask, which no picture of stub has"):
        RichPairs(painter, inpainting, words, words, judge)
    RichPairs(inpainting, inpainting, words, words, judge)


def test_an_editor_has_to_edit(tmp_path):
    painter = StubPainter(tmp_path / "a", with_faults)
    judge = RubricJudge(zero_shot_rubric(), TinyScenesJudge())
    words = writer(TinyScenesJudge(), VerdictStore(), RichPairsConfig())
    with pytest.raises(ValueError, match="the editor has to edit pictures"):
        RichPairs(painter, painter, words, words, judge)


@pytest.mark.parametrize(("settings", "words"), [
    ({"samples_per_prompt": 0}, "samples_per_prompt=0 has to be at least 1"),
    ({"min_severity": 4}, "min_severity=4 has to be 1, 2 or 3"),
    ({"min_edited_wins": 60}, "min_edited_wins=60 is a share"),
    ({"min_pixel_change": -1}, "min_pixel_change=-1 is a change"),
    ({"language": "fr"}, "language='fr' is not one of"),
    ({"prompts_at_once": 0}, "prompts_at_once=0 has to be"),
    ({"max_failure_rate": 2}, "max_failure_rate=2 is a share"),
])  # fmt: skip
def test_settings_out_of_range_are_told(settings, words):
    with pytest.raises(ValueError, match=words):
        RichPairsConfig(**settings)
