"""A judge's questions in full: what would be asked, and what a store says was asked."""

import json
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from ..chat import ChatRequest
    from ..judges import JudgeReward, JudgeRow, StoredAnswer
    from ..rubrics import Rubric


def print_request(request: "ChatRequest") -> None:
    """A request in full, with the size in place of each picture."""
    for part in (part for message in request.messages for part in message["content"]):
        image = part.get("image")
        print(part["text"] if image is None else f"<image of {image.width}x{image.height} pixels>")
    if request.choices is not None:
        print(f"--- answered by one of {', '.join(map(repr, request.choices))} ---")
        return
    print(f"--- JSON schema of the reply ---\n{json.dumps(request.json_schema, indent=2)}")


def print_questions(judge: "JudgeReward", row: "JudgeRow") -> None:
    """
    What a judge would be asked about a row: the first question in full, and how many there are.

    Raises:
        `ValueError`: for a judge whose question is not one rubric's.
    """
    from ..judges import RubricJudge

    if not isinstance(judge, RubricJudge) or judge.rubric is None:
        raise ValueError(
            "A question in full is that of one judge under one rubric; `arr-trl judge show` has those of a preset."
        )
    first, *others = judge.questions_about(row)
    print(f"--- question to {judge.model.model} ---")
    print_request(first)
    if others:
        print(f"\n{len(others)} more for the same row: the other order, or the other pictures.")


def print_stored(answer: "StoredAnswer", rubric: "Rubric | None") -> None:
    """A question of a store and its reply; digests stand for pictures, which a store does not keep."""
    where = f"{answer.model} at {answer.server}" if answer.server else answer.model
    print(f"--- question to {where}, by {answer.template}, {answer.status} ---")
    print(_text_of(answer, rubric) or f"{answer.prompt}\n\n{rubric.render() if rubric else 'The rubric is not kept.'}")
    print(f"--- reply ---\n{answer.reply or answer.choice_logprobs or '(none)'}")
    if answer.problem:
        print(f"--- why it is no answer ---\n{answer.problem}")
    print()


def _text_of(answer: "StoredAnswer", rubric: "Rubric | None") -> str | None:
    """The question as it was asked; `None` where its template has changed since, or has settings that are not kept."""
    from ..judges.choice import ChoiceMode
    from ..judges.masks import parts_of, with_mask, without_mask
    from ..judges.prompts import render_content, template_id
    from ..judges.ranks import RanksMode

    template = without_mask(answer.template)
    name = template.partition("/")[0]
    mode = {"ranks": RanksMode("ranks"), "choice": ChoiceMode(0.0)}.get(name.partition(".")[0])
    if mode is None or rubric is None or template_id(name) != template:
        return None
    sources, shown, mask = parts_of(answer)
    content = render_content(
        name,
        images=[list(sources), *shown],
        source=bool(sources),
        rubric=rubric.render(),
        prompt=answer.prompt,
        **mode.variables(len(answer.positions), rubric),
    )
    content = with_mask(content, mask, name.rpartition(".")[2])
    return "\n".join(part.get("text") or f"<image {part['image']}>" for part in content)
