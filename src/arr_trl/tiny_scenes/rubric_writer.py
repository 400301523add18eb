"""
How the embedded chat model of TinyScenes writes criteria: from what it sees to differ between two pictures, as a small
but honest vision-language model would. It knows the world's four kinds of statements and no rule behind any label.
"""

import re
from typing import Any

import numpy as np
from PIL import Image

from .critic import critique, instructions
from .scenes import CRITERIA, Caption, check, read


# What a criterion says in general, and its theme, in the order in which themes are written.
GENERAL = {
    "colors": ("Objects", "Both colors that the caption names appear in the picture."),
    "shapes": ("Objects", "The object of each named color has the shape the caption gives it."),
    "relation": (
        "Layout",
        "The two objects stand in the relation the caption asks for: left of, right of, above or below.",
    ),
    "count": ("Layout", "There are exactly two objects and nothing stray."),
}
# The first that matches tells what a criterion is about: one about a relation also names objects, and so on.
SUBJECTS = (
    ("relation", re.compile(r"relation|position|arrange|left of|right of|above|below", re.IGNORECASE)),
    ("shapes", re.compile(r"shape|circle|square|triangle", re.IGNORECASE)),
    ("count", re.compile(r"count|number of|exactly two|nothing else|no other|stray|extra", re.IGNORECASE)),
    ("colors", re.compile(r"colou?r|red|yellow|green|blue|purple", re.IGNORECASE)),
)
_VAGUE = "The picture is neat and pleasant to look at."

_PREFERRED = re.compile(r"(?:Preferred: image|偏好：图像) ([12])")
_FINDING = re.compile(r"^\d+\. (.*) -> (?:(for the preferred image|支持更受偏好的图像)|.*)$", re.MULTILINE)
_LISTED = re.compile(r"^\d+\. (.*)$", re.MULTILINE)
_CAPTION = re.compile(r"^(?:Caption: |提示词：)(.*)$", re.MULTILINE)


def subject_of(text: str) -> str | None:
    """What a criterion is about; `None` for one that the model does not understand."""
    return next((name for name, pattern in SUBJECTS if pattern.search(text)), None)


def answer_writing(
    schema: dict[str, Any] | None, texts: list[str], images: list[Image.Image], draws: np.random.Generator
) -> dict[str, Any] | None:
    """
    The JSON answer to a question that asks to write, recognised by its schema; `None` for any other question.

    Args:
        schema (`dict`, *optional*): what the reply has to be.
        texts (`list[str]`): the text parts of the question.
        images (`list[PIL.Image.Image]`): its images.
        draws (`np.random.Generator`): chooses between wordings.

    Raises:
        `ValueError`: when the question is about no caption of TinyScenes.
    """
    properties = (schema or {}).get("properties", {})
    question = "\n".join(texts)
    if "themes" in properties:
        listed = _LISTED.findall(question)
        most = properties["themes"]["maxItems"]
        return {"themes": _themes(listed)[:most] if listed else _themes([text for _, text in GENERAL.values()])}
    if "faults" in properties:
        return critique(question, images)
    if "edits" in properties:
        return instructions(question, images)
    if "observations" in properties:
        most = properties["criteria"]["maxItems"]
        return _written(question, images, most, draws)
    return None


def _written(question: str, images: list[Image.Image], most: int, draws: np.random.Generator) -> dict[str, Any]:
    """
    At first everything in which the two pictures differ, whichever it favours: a small model does not check itself.
    Told what a judge found with each, it keeps what led to the preferred picture, and looks again where nothing did.
    """
    caption = Caption.parse(_CAPTION.findall(question)[-1])  # that of an example stands before
    preferred = int(_PREFERRED.findall(question)[-1]) - 1
    met = [check(caption, read(image)) for image in images[-2:]]  # images of examples stand before
    findings = _FINDING.findall(question)
    if findings:
        kept = [text for text, finding in findings if finding]
        better = [name for name in CRITERIA if met[preferred][name] and not met[1 - preferred][name]]
        criteria = kept or [_specific(name, caption, draws) for name in better]
        seen = "Some criteria did not tell the pictures apart as people did."
    else:
        differing = [name for name in CRITERIA if met[0][name] != met[1][name]]
        criteria = [_specific(name, caption, draws) for name in differing]
        seen = f"The pictures differ in {', '.join(differing)}." if differing else "The pictures look alike."
    return {"observations": seen, "criteria": (criteria or [_VAGUE])[:most]}


def _specific(subject: str, caption: Caption, draws: np.random.Generator) -> str:
    c = caption
    wordings = {
        "colors": (
            f"There is something {c.color1} and something {c.color2}.",
            f"The colors {c.color1} and {c.color2} are both in the picture.",
        ),
        "shapes": (
            f"The {c.color1} object is a {c.shape1} and the {c.color2} object is a {c.shape2}.",
            f"Shapes are right: a {c.shape1} in {c.color1}, a {c.shape2} in {c.color2}.",
        ),
        "relation": (
            f"The {c.color1} object is {c.relation} the {c.color2} object.",
            f"The objects are arranged as asked, {c.color1} {c.relation} {c.color2}.",
        ),
        "count": ("There are exactly two objects and nothing stray.", "No extra object is in the picture."),
    }[subject]
    return wordings[draws.integers(len(wordings))]


def _themes(criteria: list[str]) -> list[dict[str, Any]]:
    """General statements of what the criteria are about, and what it does not understand as it is, under themes."""
    subjects = {subject_of(text) for text in criteria}
    themes: dict[str, list[str]] = {}
    for subject, (theme, text) in GENERAL.items():
        if subject in subjects:
            themes.setdefault(theme, []).append(text)
    if None in subjects:
        themes["Impression"] = [next(text for text in criteria if subject_of(text) is None)]
    return [{"theme": theme, "tips": tips} for theme, tips in themes.items()]
