"""
Each preset of the package against replies: a right one gives the published score, and what cannot be read gives none, never
a number. The numbers are those of the vectors, made without any judge's code.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from arr_trl.chat import ChatFailure, ChatReply
from arr_trl.judges import JudgeRow, PresetJudge, load_preset, preset_names


VECTORS = json.loads(Path(__file__).with_name("preset_vectors.json").read_text())
PROMPT = "make the sky red. Keep the tree"
RED, BLUE, GREEN, SOURCE = (Image.new("RGB", (16, 16), color) for color in ("red", "blue", "green", "gray"))


class Told:
    """A chat model that gives what a test wrote down: a text, log-probabilities, or a failure, by what the question says."""

    model, settings = "told", {}

    def __init__(self, *replies, **by_words):
        self.replies, self.by_words, self.requests = list(replies), by_words, []

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        self.requests += requests
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        said = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if callable(said):
            said = said(request)
        if isinstance(said, ChatReply):
            return said
        if isinstance(said, dict):
            return ChatReply(choice_logprobs={k: math.log(p) for k, p in said.items() if k in request.choices and p})
        return ChatReply(text=said)


def logprobs(logits):
    total = math.log(sum(map(math.exp, logits)))
    return {str(i): math.exp(z - total) for i, z in enumerate(logits)}


def row(preset, images=None):
    preset = load_preset(preset)
    images = images or ((RED, BLUE) if preset.kind == "pairwise" else (RED,))
    columns = {
        "grid": [2, 2],
        "reference_image": GREEN,
        "vqa_list": [["Is it red?", "Yes"], ["How many?", "two"], ["Is it?", "No"]],
    }
    return JudgeRow(PROMPT, images, SOURCE, columns=columns)


def verdict_on(preset, *replies, images=None, **settings):
    judge = PresetJudge(preset, Told(*replies), **settings)
    (verdict,) = judge.compare([row(preset, images)])
    return verdict, judge


def flex(winner, *points):
    dims = [{"name": "d", "reason_1": "", "reason_2": "", "score_1": a, "score_2": b} for a, b in points]
    return json.dumps({
        "prompt": "p",
        "categories": [{"name": "meaning", "dims": dims, "cat_reason": "", "cat_winner": winner}],
        "reason": "it is",
        "winner": winner,
    })  # fmt: skip


def aspects(a, b, names=("Text Faithfulness", "Physical and Visual Quality"), rendering="N/A"):
    """A reply of RationalRewards with the same scores on each aspect, and the last N/A."""
    blocks = [
        f"{i}. **{name}**\n## Justification: Both.\n## Score A: {a}\n## Score B: {b}\n## Winner: A\n"
        for i, name in enumerate(names, start=1)
    ]
    last = f"{len(names) + 1}. **Text Rendering**\n## Justification: none\n## Score A: {rendering}\n## Score B: {rendering}\n## Winner: {rendering}\n"
    return "# User Request Analysis\n...\n\n# Detailed Judgement\n" + "".join([*blocks, last]) + "# Summary: done."


SHARES = VECTORS["unifiedreward_pair_shares"]
SHARES_REPLY = "\n\n".join(f"{name} Score:\n Image 1: {a}\n Image 2: {b}" for name, (a, b) in SHARES["axes"].items())
POINT = dict(zip(("Alignment", "Coherence", "Style"), VECTORS["unifiedreward_point"]["axes_1_to_5"], strict=True))
EDIT = VECTORS["editscore"]
EXPECTED = VECTORS["score_expectation"]
EDITORIAL = ("Text Faithfulness", "Image Faithfulness", "Physical and Visual Quality")
PRINCIPLES = (
    '[{"question": "Is the sky red?", "category": "Follow"}, {"question": "Is the tree there?", "category": "Keep"}]'
)


def numbers(pair):
    return json.dumps({"reasoning": "short", "score": pair})


# Of each preset: replies in the order asked, what they give, and what may stand in place of a right reply that is none.
SCORES = {
    "paco-consistency": ([{"Yes": 0.9, "No": 0.1}], 0.9),
    "paco-rank": ([{"Yes": 0.6, "No": 0.2}], 0.75),
    "paco-edit": (
        [{"Yes": p, "No": 1 - p} for p in (VECTORS["paco_edit"]["p_consistent"], VECTORS["paco_edit"]["p_followed"])],
        VECTORS["paco_edit"]["score"],
    ),
    "editscore": ([numbers(EDIT["semantics_answer"]), numbers(EDIT["quality_answer"])], EDIT["overall"] / 10),
    "viescore-edit": ([numbers([8, 6]), numbers([7.2, 8.8])], math.sqrt(6 * 7.2) / 10),
    "unifiedreward-edit-point": ([numbers(EDIT["semantics_answer"]), numbers(EDIT["quality_answer"])], EDIT["overall"] / 10),
    "unifiedreward-2-point": (
        ["\n".join(f"{name} Score (1-5): {x}" for name, x in POINT.items())], VECTORS["unifiedreward_point"]["scaled"],
    ),
    "unifiedreward-point": (["It is good.\nFinal Score: 4"], 0.75),
    "edit-expectation": ([logprobs(EXPECTED["logits_of_0_to_5"])], EXPECTED["score"]),
    "image-expectation": ([logprobs(EXPECTED["logits_of_0_to_5"])], EXPECTED["score"]),
    "visualquality-r1": (["<think>It is 2 or 3.</think><answer>3.50</answer>"], 0.625),
    "q-insight": (['<think>...</think><answer>{"rating": 3.5}</answer>'], 0.625),
    "imgedit-judge": (["Good.\nPrompt Compliance: 4\nVisual Naturalness: 3\nPhysical & Detail Integrity: 5"], 0.75),
    "three-axis": ([f'{{"{a}": "yes", "score": {s}}}' for a, s in (("followed", 5), ("kept", 4), ("quality", 3.0))], 0.8),
    "reference-yes": ([{"Yes": 0.8, "No": 0.2}, {"Yes": 0.3, "No": 0.7}], (0.8 + 1 - 0.3) / 2),
    "soft-tifa": (
        [{"Yes": 0.9, "No": 0.1}, {"two": 0.7, "2": 0.1, "three": 0.1}, {"No": 0.5}],
        VECTORS["soft_tifa"]["geometric_mean"],
    ),
    "edit-rrm": ([PRINCIPLES, '[{"question": "Is the sky red?", "score": 1}]\n{"average_score": 1}\n<score>7.5</score>'], 0.75),
}  # fmt: skip
WINS = {
    "unifiedreward-2-pair": (SHARES_REPLY, SHARES["margin"]),
    "unifiedreward-think": ("<think>Image 2 is better? No.</think><answer>Image 1 is better</answer>", 1.0),
    "unifiedreward-flex": (flex("Image 1", *VECTORS["unifiedreward_flex_dims"]["score_1_score_2"]), 1.0),
    "unifiedreward-edit-pair": ("Edited image 2 is better at light.\n<answer>Edited image 1 is better</answer>", 1.0),
    "rationalrewards-t2i": (aspects(3.5, 2.0), 0.5),
    "rationalrewards-edit": (aspects(3.5, 2.0, EDITORIAL), 0.5),
    "mj-pair": ("IMAGE-1 RATING: 8\nIMAGE-2 RATING:\n6.5\nBETTER IMAGE: 1\nANALYSIS OF CHOICE: clear.", 0.15),
}
NO_ANSWERS = {
    "refused": "I cannot judge pictures of this kind.",
    "truncated": ChatReply(text="<answer>3", failure=ChatFailure("truncated", "The reply was cut at 4096 tokens.")),
    "gone": ChatReply(failure=ChatFailure("server", "It is gone.")),
    "empty": "",
}
OUT_OF_RANGE = {
    "editscore": numbers([26, 10]),
    "viescore-edit": numbers([11, 10]),
    "unifiedreward-edit-point": numbers([-1, 10]),
    "unifiedreward-2-point": "Alignment Score (1-5): 6\nCoherence Score (1-5): 3\nStyle Score (1-5): 3",
    "unifiedreward-point": "Final Score: 0",
    "visualquality-r1": "<answer>5.01</answer>",
    "q-insight": '<answer>{"rating": 0.9}</answer>',
    "imgedit-judge": "Prompt Compliance: 7\nVisual Naturalness: 3\nPhysical & Detail Integrity: 5",
    "three-axis": '{"followed": "yes", "score": 5.5}',
    "edit-rrm": "<score>10.5</score>",
    "unifiedreward-2-pair": SHARES_REPLY.replace("0.7", "1.7"),
    "rationalrewards-t2i": aspects(4.5, 2.0),
    "rationalrewards-edit": aspects(0.5, 2.0, EDITORIAL),
    "mj-pair": "IMAGE-1 RATING: 18\nIMAGE-2 RATING: 6\nBETTER IMAGE: 1\nANALYSIS OF CHOICE: clear.",
}
BOTH = {
    "unifiedreward-think": "<answer>Image 1 is better, or Image 2 is better</answer>",
    "unifiedreward-flex": flex("Image 1").replace('"winner": "Image 1"', '"winner": "Image 1 or Image 2"'),
    "unifiedreward-edit-pair": "<answer>Edited image 1 is better. Edited image 2 is better.</answer>",
    "mj-pair": "IMAGE-1 RATING: 8\nIMAGE-2 RATING: 6\nBETTER IMAGE: 2\nANALYSIS OF CHOICE: clear.",
    "unifiedreward-2-pair": SHARES_REPLY.replace("Image 2: 0.3", "Image 2: 0.7"),
    "unifiedreward-point": "Final Score: 4\nFinal Score: 2",
    "rationalrewards-t2i": aspects(3.5, 2.0).replace("## Score A: 3.5", "## Score A: 3.5\n## Score A: 1", 1),
    "three-axis": '{"followed": "yes", "score": [5, 1]}',
    "visualquality-r1": "<answer>3 or 4</answer>",
    "q-insight": '<answer>{"rating": [3, 4]}</answer>',
}


def wrong(preset, reply):
    """Right replies, with one that is no answer in place of the last."""
    right = SCORES[preset][0] if preset in SCORES else [WINS[preset][0]]
    labels = isinstance(right[-1], dict)
    if labels and isinstance(reply, str):
        reply = ChatReply(choice_logprobs={})  # none of the labels among the likely tokens
    return [*right[:-1], reply]


def test_every_preset_is_tested():
    assert sorted([*SCORES, *WINS]) == preset_names()


@pytest.mark.parametrize("preset", SCORES)
def test_a_right_reply_gives_the_published_score(preset):
    replies, score = SCORES[preset]
    verdict, _ = verdict_on(preset, *replies)
    assert verdict.failure is None
    assert verdict.candidates == 1
    assert verdict.scores == (pytest.approx(score, abs=1e-12),)


@pytest.mark.parametrize("preset", WINS)
def test_a_right_reply_gives_the_published_winner(preset):
    reply, margin = WINS[preset]
    verdict, judge = verdict_on(preset, reply, order="fixed")
    assert (verdict.winner, verdict.ranks) == (0, (1.0, 2.0))
    assert verdict.margin == pytest.approx(margin)
    # the same reply in both orders prefers a position, and nobody
    verdict, judge = verdict_on(preset, reply)
    assert verdict.tie
    assert (verdict.consistent, verdict.first_position) == (False, (True, True))
    assert len(judge.model.requests) == 2 == judge.questions_per_row(2)


@pytest.mark.parametrize("preset", [*SCORES, *WINS])
@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_what_is_no_answer_is_missing_and_never_a_number(preset, kind):
    verdict, _ = verdict_on(preset, *wrong(preset, NO_ANSWERS[kind]), max_failure_rate=None)
    assert verdict.failure
    assert (verdict.winner, verdict.ranks, verdict.scores) == (None, None, None)


@pytest.mark.parametrize(("preset", "reply"), [*OUT_OF_RANGE.items(), *BOTH.items()])
def test_what_is_out_of_range_or_says_both_is_missing(preset, reply):
    verdict, _ = verdict_on(preset, *wrong(preset, reply))
    assert verdict.failure
    assert verdict.scores is None


@pytest.mark.parametrize("preset", [*SCORES, *WINS])
def test_no_schema_goes_with_a_question_and_no_repair_behind_it(preset):
    _, judge = verdict_on(preset, *wrong(preset, "I cannot."), order="fixed")
    for request in judge.model.requests:
        assert request.json_schema is None
        assert [m["role"] for m in request.messages if m["role"] != "system"] == ["user"]
    asked = [json.dumps(r.messages, default=id) for r in judge.model.requests]
    seeds = [r.sampling.get("seed") for r in judge.model.requests]
    assert len(asked) == len(set(zip(asked, seeds, strict=True)))


# What stands where in the message: t for text, and the pictures by their first letter.
ORDER = {
    "paco-consistency": "xxt", "paco-rank": "trtct", "paco-edit": "sct", "editscore": "sct ct", "viescore-edit": "sct ct",
    "unifiedreward-edit-point": "sct ct", "unifiedreward-2-point": "ct", "unifiedreward-point": "ct",
    "edit-expectation": "sct", "image-expectation": "ct", "visualquality-r1": "tct", "q-insight": "tc",
    "imgedit-judge": "tsc", "three-axis": "tstct", "reference-yes": "tctrt trtct", "soft-tifa": "ct", "edit-rrm": "st sct",
    "unifiedreward-2-pair": "12t", "unifiedreward-think": "12t", "unifiedreward-flex": "12t",
    "unifiedreward-edit-pair": "s12t", "rationalrewards-t2i": "t1t2t", "rationalrewards-edit": "tst1t2t", "mj-pair": "t1t2t",
}  # fmt: skip


@pytest.mark.parametrize("preset", ORDER)
def test_pictures_stand_where_the_published_question_has_them(preset):
    replies = SCORES[preset][0] if preset in SCORES else [WINS[preset][0]]
    _, judge = verdict_on(preset, *replies, order="fixed")
    letters = {"gray": "s", "green": "r", "red": "1" if preset in WINS else "c", "blue": "2"}
    by_color = {Image.new("RGB", (1, 1), color).getpixel((0, 0)): letter for color, letter in letters.items()}

    def letter(part):
        if part["type"] == "text":
            return "t"
        if preset == "paco-consistency":
            return "x" if part["image"].size == (8, 8) else "?"
        return by_color[part["image"].getpixel((0, 0))]

    found = ["".join(map(letter, r.messages[-1]["content"])) for r in judge.model.requests]
    assert list(dict.fromkeys(found)) == ORDER[preset].split()
    text = " ".join(p["text"] for r in judge.model.requests for p in r.messages[-1]["content"] if p["type"] == "text")
    sees_no_prompt = ("visualquality-r1", "q-insight", "soft-tifa", "paco-rank")
    assert ("make the sky red" in text) == (preset not in sees_no_prompt)


@pytest.mark.parametrize("preset", preset_names())
def test_another_version_or_wording_asks_anew_and_nothing_else_does(preset, tmp_path):
    replies = SCORES[preset][0] if preset in SCORES else [WINS[preset][0]]
    first = load_preset(preset)
    reworded = first.asks[0].model_copy(update={"template": first.asks[0].template + "\nThink of the sky."})
    for changed, asks in (
        ({}, True), ({}, False), ({"version": "2"}, True), ({"licence": "other"}, False),
        ({"asks": (reworded, *first.asks[1:])}, True),
    ):  # fmt: skip
        model = Told(*replies)
        judge = PresetJudge(first.model_copy(update=changed), model, store=tmp_path / "judge.sqlite")
        judge.compare([row(preset)])
        judge.store.close()
        assert bool(model.requests) == asks, changed


def test_labels_are_read_from_a_list_of_tokens_as_the_vectors_say():
    from openai_server import Answer, OpenAIServer

    case = VECTORS["p_yes"]
    folded = load_preset("paco-rank")
    reader = folded.asks[0].read.model_copy(update={"fold_case": True})
    folded = folded.model_copy(
        update={"version": "folded", "asks": (folded.asks[0].model_copy(update={"read": reader}),)}
    )
    for preset, top, expected in (
        ("paco-rank", case["top_logprobs"], case["white_space_summed"]),
        (folded, case["top_logprobs"], case["case_folded_too"]),
        ("paco-rank", [["Yes", -0.35], ["No", -1.6], ["The", -6.0]], case["exact"]),
        ("paco-rank", [["Yes", -0.1], ["The", -3.0]], case["only_yes_listed"]),
        ("paco-rank", [["No", -0.1], ["The", -3.0]], case["only_no_listed"]),
        ("paco-rank", [["The", -0.1], ["A", -3.0]], case["neither_listed"]),
    ):
        with OpenAIServer(respond=lambda n, body, top=top: Answer("x", top_logprobs=top)) as server:
            judge = PresetJudge(preset, "paco", server.url)
            (reward,) = judge([PROMPT], [RED], num_generations=1, reference_image=[GREEN])
            judge.model.close()
            (body,) = server.requests
        assert (body["max_tokens"], body["top_logprobs"]) == (1, 20)
        assert "response_format" not in body
        assert reward == (None if expected is None else pytest.approx(expected, abs=1e-9))


def test_the_grid_of_paco_is_the_mean_over_the_pairs_that_were_answered():
    case = VECTORS["paco_grid_2x2"]
    cells = Image.new("RGB", (16, 16))
    for i, color in enumerate(("red", "green", "blue", "white")):
        cells.paste(color, (8 * (i % 2), 8 * (i // 2), 8 * (i % 2) + 8, 8 * (i // 2) + 8))
    colors = [cells.getpixel((8 * (i % 2), 8 * (i // 2))) for i in range(4)]

    def said(request):
        a, b = (
            colors.index(p["image"].getpixel((0, 0))) for p in request.messages[0]["content"] if p["type"] == "image"
        )
        p = case["p_yes"][case["pairs"].index([a, b])]
        return {} if p is None else {"Yes": p, "No": 1 - p}

    verdict, _ = verdict_on("paco-consistency", said, images=(cells,))
    assert verdict.scores == (pytest.approx(case["mean_of_answered"]),)


def test_rational_rewards_with_nothing_to_read_tells_pictures_apart():
    """The published reader makes a tie of every reply whose text rendering is N/A."""

    def said(request):
        first = next(p["image"] for p in request.messages[0]["content"] if p["type"] == "image")
        return aspects(3.5, 2.0) if first.getpixel((0, 0)) == (255, 0, 0) else aspects(2.0, 3.5)

    judge = PresetJudge("rationalrewards-t2i", Told(said))
    assert judge([PROMPT] * 2, [BLUE, RED]) == [0.0, 1.0]
    (verdict,) = judge.compare([JudgeRow(PROMPT, (BLUE, RED))])
    assert dict(verdict.axes) == {"Text Faithfulness": (2.0, 3.5), "Physical and Visual Quality": (2.0, 3.5)}
    # N/A of one picture alone is of both
    half = aspects(3.5, 2.0, rendering="4.0").replace("Score B: 4.0", "Score B: N/A")
    assert verdict_on("rationalrewards-t2i", half, order="fixed")[0].margin == pytest.approx(0.5)


@pytest.mark.parametrize("preset", ["unifiedreward-think", "unifiedreward-2-pair"])
def test_four_candidates_of_which_one_comparison_failed_have_the_win_rates_of_the_vectors(preset):
    case = VECTORS["win_rates"]
    pictures = [Image.new("RGB", (8, 8), (50 * i, 0, 0)) for i in range(4)]
    answers = {tuple(pair): winner for pair, winner in case["answers"]}

    def said(request):
        shown = [p["image"].getpixel((0, 0))[0] // 50 for p in request.messages[0]["content"] if p["type"] == "image"]
        winner = answers[tuple(sorted(shown))]
        if winner is None:
            return "I cannot."
        place = 0 if winner == "tie" else shown.index(winner)  # a tie: whoever is first, in both orders
        if preset == "unifiedreward-think":
            return f"<answer>Image {place + 1} is better</answer>"
        shares = (0.7, 0.3) if place == 0 else (0.3, 0.7)
        return "\n".join(f"{axis} Score:\n Image 1: {shares[0]}\n Image 2: {shares[1]}" for axis in POINT)

    judge = PresetJudge(preset, Told(said), max_failure_rate=None)
    logged = {}
    rewards = judge([PROMPT] * 4, pictures, num_generations=4, log_metric=logged.__setitem__)
    assert rewards == pytest.approx(case["rates"])
    assert judge.questions_per_row(4) == 12
    assert logged["judge/abstention_rate"] == pytest.approx(1 / 6)


def test_flex_keeps_its_categories_and_its_shares():
    reply = flex("Image 1", *VECTORS["unifiedreward_flex_dims"]["score_1_score_2"])
    verdict, _ = verdict_on("unifiedreward-flex", reply, order="fixed")
    assert dict(verdict.axes)["share"][0] == pytest.approx(VECTORS["unifiedreward_flex_dims"]["mean_share_1"])
    assert [c.winner for c in verdict.criteria] == [0]


def test_one_candidate_without_an_answer_is_missing_and_the_others_are_not():
    replies = [ChatReply(text="Final Score: 4"), "no", ChatReply(text="Final Score: 2")]
    judge = PresetJudge("unifiedreward-point", Told(*replies), max_failure_rate=None)
    assert judge([PROMPT] * 3, [RED, BLUE, GREEN], num_generations=3) == [0.75, None, 0.25]
    judge = PresetJudge("unifiedreward-point", Told(*replies[:2]), max_failure_rate=None)
    (verdict,) = judge.compare([JudgeRow(PROMPT, (RED, BLUE))])
    assert verdict.failure  # a pair of which one is known was not compared
    assert not verdict.tie
    assert judge([PROMPT] * 2, [RED, BLUE]) == [0.75, None]


def test_axes_are_logged_as_the_judge_gave_them():
    judge = PresetJudge("editscore", Told(*SCORES["editscore"][0]))
    metrics, extra = {}, {}
    judge([PROMPT], [RED], 1, [SOURCE], log_metric=metrics.__setitem__, log_extra=extra.__setitem__)
    assert {k: v for k, v in metrics.items() if k.startswith("judge/score/")} == {
        "judge/score/followed": 20, "judge/score/unchanged": 15, "judge/score/natural": 18, "judge/score/clean": 22,
    }  # fmt: skip
    assert extra["judge_followed"] == [20]


def test_principles_are_made_once_for_an_instruction_and_kept(tmp_path):
    def said(request):
        text = request.messages[0]["content"][-1]["text"]
        return "<score>5</score>" if "Is the tree there?" in text else PRINCIPLES

    for images in ((RED, BLUE), (GREEN,)):
        model = Told(said)
        judge = PresetJudge("edit-rrm", model, store=tmp_path / "judge.sqlite")
        judge([PROMPT] * len(images), list(images), len(images), [SOURCE] * len(images))
        judge.store.close()
        assert len(model.requests) == len(images) + (images[0] is RED)


def test_without_principles_nothing_is_asked_about_the_candidates():
    verdict, judge = verdict_on("edit-rrm", '[{"question": "Is it?", "category": "Beauty"}]')
    assert "There are no principles for" in verdict.failure
    assert len(judge.model.requests) == 1


def test_a_reply_that_cannot_be_read_is_sampled_once_more_with_another_seed():
    verdict, judge = verdict_on("editscore", "Sorry.", *SCORES["editscore"][0][::-1], combine="mean")
    assert verdict.failure is None
    seeds = [r.sampling["seed"] for r in judge.model.requests]
    assert len(seeds) == 3
    assert len(set(seeds)) == 2
    assert judge.model.requests[0].sampling | {"seed": 0} == {"top_p": 0.9, "top_k": 20, "seed": 0}
    verdict, judge = verdict_on("editscore", "Sorry.", temperature=0.0, passes=1)
    assert verdict.failure is not None
    assert len(judge.model.requests) == 2


def test_a_canary_asks_at_temperature_0_without_a_band_of_ties_and_nothing_that_is_stored():
    judge = PresetJudge("visualquality-r1", Told("<answer>3</answer>"), tie_margin=0.2)
    for probe in (judge.probe(), judge.probe(), judge):
        probe.compare([row("visualquality-r1")])
    assert [r.temperature for r in judge.model.requests] == [0.0, 0.0, 1.0]
    assert (judge.untied().tie_margin, judge.tie_margin) == (0.0, 0.2)


def test_passes_have_seeds_of_their_own_and_the_mean_is_over_those_answered():
    replies = [ChatReply(text=f"<answer>{x}</answer>") for x in (2, 4)]
    gone = ChatReply(failure=ChatFailure("server", "It is gone."))
    verdict, judge = verdict_on("visualquality-r1", *replies, gone, passes=3)
    assert verdict.scores == (pytest.approx(0.5),)
    assert [r.sampling["seed"] for r in judge.model.requests] == [0, 1, 2]
    assert replace(judge.model.requests[0], sampling={}) == replace(judge.model.requests[1], sampling={})


def test_the_page_has_a_row_for_every_preset_with_its_weights_and_licence():
    page = (Path(__file__).parents[2] / "docs" / "source" / "judge_presets.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    rows = {name.strip("`"): told for name, *told in cells if len(told) == 6}
    for name in preset_names():
        preset = load_preset(name)
        task, shows, answer, _, weights, licence = rows[name]
        assert (task, licence) == (preset.task, preset.licence or "not stated")
        assert preset.weights in weights if preset.weights else weights == "any model"
        assert shows.startswith(", ".join(preset.asks[0].images))
        assert answer == {"labels": "label", "expected": "label"}.get(preset.answers[0], preset.answers[0])
