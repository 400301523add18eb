"""
The mask of an edit in a question. It is shown as a picture of its own, behind all others and with a sentence: so the source is
seen as it was, candidates keep their numbers, and questions that were published keep their words and the order of theirs.
"""

from typing import Any

from PIL import Image

from .prompts import source_digest
from .store import StoredAnswer


NOTES = {
    "en": (
        "One picture more, which is not judged: the mask of this edit. Where it is white, the original was to be drawn anew; "
        "where it is black, everything has to stay as it is in the original."
    ),
    "zh": "另有一张不参与评判的图像，即本次编辑的蒙版：白色部分需要重新绘制，黑色部分必须与原图保持一致。",
}
_MARK = "+mask-"  # between the name of a template and the digest of the sentence


def with_mask(content: list[dict[str, Any]], mask: Any, language: str = "en") -> list[dict[str, Any]]:
    """
    A question with the mask of its edit behind its last picture; the question as it is where there is none.

    Args:
        content (`list[dict]`): parts of a message, at least one of them a picture.
        mask (`PIL.Image.Image`, *optional*): white where the source was to be drawn anew, black where it stays.
        language (`str`, *optional*, defaults to `"en"`): of the sentence.
    """
    if mask is None:
        return content
    behind = 1 + max(i for i, part in enumerate(content) if part["type"] == "image")
    shown = [{"type": "text", "text": NOTES[language]}, {"type": "image", "image": mask}]
    return [*content[:behind], *shown, *content[behind:]]


def named_with_mask(template: str, mask: Image.Image | None, language: str = "en") -> str:
    """What an answer is filed under: the template, and the sentence where there is a mask."""
    return template if mask is None else f"{template}{_MARK}{source_digest(NOTES[language])}"


def without_mask(template: str) -> str:
    """The template of what an answer is filed under."""
    return template.partition(_MARK)[0]


def parts_of(answer: StoredAnswer) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """Digests of what an answer was about: the sources, the candidates in the order shown, and the mask."""
    masked = _MARK in answer.template
    shown, mask = (answer.images[:-1], answer.images[-1]) if masked else (answer.images, None)
    number = len(shown) - len(answer.positions)
    return shown[:number], shown[number:], mask
