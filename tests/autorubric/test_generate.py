import json

import pytest
from PIL import Image
from pydantic import ValidationError

from arr_trl.autorubric import AutoRubricConfig, Writer
from arr_trl.autorubric.generate import generate_questions, shown_swapped
from arr_trl.autorubric.refine import refine_question
from arr_trl.autorubric.structure import structure_question, zero_shot_question
from arr_trl.autorubric.writer import NoAnswer, criteria_reply, distinct, read_criteria
from arr_trl.chat import ChatReply
from arr_trl.data.preferences import Preference
from arr_trl.judges import VerdictStore
from arr_trl.judges.parsing import ReplyError, parse_reply
from arr_trl.judges.verdict import CriterionResult, Verdict
from arr_trl.tiny_scenes import TinyScenesJudge


def gray(value):
    return Image.new("RGB", (4, 4), (value,) * 3)


def pair(winner=0, prompt="a lamp", source=None, base=0, rationale=None):
    return Preference(prompt, (gray(base + 1), gray(base + 2)), winner, source, rationale=rationale)


class Scripted:
    """A chat model that gives the replies it was told, in turn."""

    model = "scripted"
    settings = {}

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []

    def check(self):
        pass

    def complete(self, requests, on_reply=None):
        self.requests += requests
        return [ChatReply(text=self.replies.pop(0)) for _ in requests]


def writer_with(*replies, language="en"):
    return Writer(Scripted(*replies), VerdictStore(), language, 100, 0.0)


def criteria(*texts):
    return json.dumps({"observations": "o", "criteria": list(texts)})


def shown(request):
    parts = [part for message in request.messages for part in message["content"]]
    return [part["image"].getpixel((0, 0))[0] for part in parts if part["type"] == "image"], "\n".join(
        part["text"] for part in parts if part["type"] == "text"
    )


def test_every_second_winner_is_shown_first_whatever_the_order_of_the_data():
    pairs = [pair(winner) for winner in (0, 0, 0, 0, 1, 1)]
    placed = [p.winner != swapped for p, swapped in zip(pairs, shown_swapped(pairs), strict=True)]
    assert placed == [False, True] * 3
    questions = generate_questions(pairs, writer_with(), AutoRubricConfig())
    for question, p in zip(questions, pairs, strict=True):
        images, text = shown(question.request())
        preferred = int(text.partition("Preferred: image ")[2][0])
        assert images[preferred - 1] == p.images[p.winner].getpixel((0, 0))[0]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("source", [None, gray(99)])
def test_all_templates_render_for_both_tasks_and_languages(language, source):
    writer, config = writer_with(language=language), AutoRubricConfig(language=language)
    verdict = Verdict(winner=1, ranks=(2.0, 1.0), criteria=(CriterionResult(1, 1),), reason="It is dim.")
    task = "image-editing" if source else "text-to-image"
    questions = {
        "generate": generate_questions([pair(source=source)], writer, config)[0],
        "refine": refine_question(pair(source=source), False, ["The lamp is lit."], verdict, writer, config),
        "structure": structure_question(["The lamp is lit."], task, writer, config),
        "zero_shot": zero_shot_question("Lamps for a shop.", task, writer, config),
    }
    for name, question in questions.items():
        images, text = shown(question.request())
        assert question.blank.template.startswith(f"{name}.{language}/")
        assert ("BASE image" in text or "所作用的原图" in text) == (
            source is not None and name in ("generate", "refine")
        )
        if name in ("generate", "refine"):
            assert images == ([99] if source else []) + [1, 2]
        assert "{" in text.splitlines()[-1]
        assert "\n\n\n" not in text


def test_refinement_is_told_what_the_verifier_found_with_each_criterion():
    verdict = Verdict(
        winner=1,
        ranks=(2.0, 1.0),
        criteria=(CriterionResult(1, 0), CriterionResult(2, 1), CriterionResult(3, None)),
        reason="Image 2 is brighter.",
    )
    question = refine_question(pair(0), False, ["a", "b", "c"], verdict, writer_with(), AutoRubricConfig())
    _, text = shown(question.request())
    assert "1. a -> for the preferred image\n2. b -> for the other image\n3. c -> no difference" in text
    assert "The judge said: Image 2 is brighter." in text
    # shown the other way round, the judge's numbers would mean the other image
    _, text = shown(
        refine_question(pair(0), True, ["a", "b", "c"], verdict, writer_with(), AutoRubricConfig()).request()
    )
    assert "brighter" not in text


def test_a_guide_is_shown_before_the_pair():
    guide = [pair(1, "a tree", gray(50), base=60, rationale="Its leaves are green.")]
    question = generate_questions([pair(source=gray(9))], writer_with(), AutoRubricConfig(), guide)[0]
    images, text = shown(question.request())
    assert images == [50, 62, 61, 9, 1, 2]
    assert text.index("a tree") < text.index("Why: Its leaves are green.") < text.index("a lamp")
    with pytest.raises(ValueError, match=r"no `rationale`"):
        generate_questions([pair()], writer_with(), AutoRubricConfig(), [pair()])


def test_zero_shot_criteria_are_written_without_an_image():
    writer = Writer(TinyScenesJudge(), VerdictStore(), "en", 100, 0.0)
    pairs = [pair(prompt="a red circle left of a blue square")]
    questions = generate_questions(pairs, writer, AutoRubricConfig(method="zero-shot"))
    assert shown(questions[0].request())[0] == []
    (found,) = writer.ask(questions)
    assert "There are exactly two objects and nothing stray." in found


def test_a_criterion_that_compares_images_is_asked_for_again():
    writer = writer_with(
        criteria("Image 2 is brighter."), criteria("The lamp is lit.", "the lamp is lit", "It stands.")
    )
    (found,) = writer.ask(generate_questions([pair()], writer, AutoRubricConfig()))
    assert found == ["The lamp is lit.", "It stands."]
    assert "compares images" in writer.model.requests[1].messages[-1]["content"][0]["text"]


def test_a_model_that_never_answers_in_json_is_no_answer():
    writer = writer_with("It is nice.", "Very nice.")
    (found,) = writer.ask(generate_questions([pair()], writer, AutoRubricConfig()))
    assert isinstance(found, NoAnswer)
    assert not found.failed
    assert "not the JSON object" in found.problem


def test_themes_are_limited_numbered_stably_and_merged():
    reply = {
        "themes": [
            {"theme": "Light", "tips": ["The lamp is lit.", "The  lamp is LIT"]},
            {"theme": "Place", "tips": ["It stands.", "The lamp is lit."]},
            {"theme": "Light", "tips": ["It is warm."]},
        ]
    }
    writer = writer_with(json.dumps(reply))
    (found,) = writer.ask([structure_question(["x"], "text-to-image", writer, AutoRubricConfig())])
    assert [(c.theme, c.text) for c in found] == [
        ("Light", "The lamp is lit."),
        ("Light", "It is warm."),
        ("Place", "It stands."),
    ]
    many = {"themes": [{"theme": str(i), "tips": ["t"]} for i in range(6)]}
    writer = writer_with(json.dumps(many), json.dumps(many))
    (found,) = writer.ask([structure_question(["x"], "text-to-image", writer, AutoRubricConfig())])
    assert isinstance(found, NoAnswer)


def test_more_criteria_than_asked_for_are_refused():
    with pytest.raises(ValidationError):
        criteria_reply(2).model_validate_json(criteria("a", "b", "c"))


def test_distinct_ignores_case_spaces_and_the_period():
    assert distinct(["A b.", "a  B", "c"]) == ["A b.", "c"]


def test_a_criterion_of_white_space_that_no_schema_knows_is_no_criterion():
    reply = parse_reply('{"observations": "", "criteria": ["Red.", "\\u001c"]}', criteria_reply(2))
    with pytest.raises(ReplyError, match="A criterion has no text"):
        read_criteria(reply)


@pytest.mark.parametrize(
    "wrong", [{"num_criteria": 0}, {"max_rounds": -1}, {"holdout": 1.0}, {"method": "few"}, {"language": "de"}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AutoRubricConfig(**wrong)
