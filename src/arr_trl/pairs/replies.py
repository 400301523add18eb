"""What a chat model is asked about a picture on the way to a better one: its faults, and how to mend them."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, create_model

from ..autorubric import Writer
from ..evaluation.page import KINDS_OF_FAULTS
from ..judges.parsing import ReplyError
from ..judges.questions import Question
from .painter import Source


PACKAGE = "arr_trl.pairs"
# Faults of these kinds are mended by changing much of the picture; all others have their place in it.
OF_THE_WHOLE = ("relation", "quality")
MOST_FAULTS = 10

# without its docstring, which is for people, in the schema that a server gets
_STRICT = ConfigDict(strict=True, extra="forbid", json_schema_extra=lambda schema: schema.pop("description", None))
_TEXT = Annotated[str, Field(pattern=r"\S", max_length=1000)]
# a character of a script without spaces counts as a word
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
_SHORT_PROMPT = 5  # words; of so few an instruction may well name all


class Fault(BaseModel):
    """
    A fault of a picture.

    Args:
        what (`str`): what is wrong.
        where (`str`): where in the picture.
        kind (`str`): `"missing"`, `"wrong"`, `"extra"`, `"count"`, `"relation"`, `"text"`, `"anatomy"` or `"quality"`.
        severity (`int`): 1 for what one has to look for, 2 for what one sees, 3 for what makes the picture useless.
    """

    model_config = _STRICT

    what: _TEXT
    where: Annotated[str, Field(max_length=300)]
    kind: Literal[KINDS_OF_FAULTS]
    severity: Annotated[int, Field(ge=1, le=3)]

    @property
    def local(self) -> bool:
        """Whether mending it should leave most of the picture alone."""
        return self.kind not in OF_THE_WHOLE


class Edit(BaseModel):
    """
    One thing to change.

    Args:
        instruction (`str`): what an editor is told.
        fault (`int`): number of the fault that it mends, from 1.
        keeps (`str`): what has to stay as it is.
        confidence (`float`): how likely an editor can do it, 0 to 1.
    """

    model_config = _STRICT

    instruction: _TEXT
    fault: Annotated[int, Field(ge=1)]
    keeps: Annotated[str, Field(max_length=1000)]
    confidence: Annotated[float, Field(ge=0, le=1)]


class Critique(BaseModel):
    """The reply to what is wrong with a picture."""

    model_config = _STRICT

    faults: Annotated[list[Fault], Field(max_length=MOST_FAULTS)]


@lru_cache(maxsize=8)
def edits_reply(most: int) -> type[BaseModel]:
    """The reply that holds at most `most` edits."""
    edits = Annotated[list[Edit], Field(max_length=most)]
    return create_model("Edits", __config__=_STRICT, edits=(edits, ...))


def critique_question(
    prompt: str, source: Source, image: Image.Image, critic: Writer, mask: Image.Image | None = None
) -> Question:
    """Ask for the faults of a picture, an edit of `source` where there is one; the answer reads as a list of [`Fault`]."""
    return critic.question(
        "critique",
        Critique,
        prompt=prompt,
        images=[source, image],
        mask=mask,
        read=lambda reply: reply.faults,
        editing=source is not None,
        kinds=list(KINDS_OF_FAULTS),
        k=MOST_FAULTS,
    )


def instruct_question(
    prompt: str,
    source: Source,
    image: Image.Image,
    faults: Sequence[Fault],
    writer: Writer,
    most: int,
    mask: Image.Image | None = None,
) -> Question:
    """
    Ask how to mend faults; the answer reads as a list of [`Edit`]. Where the picture is itself an edit of `source`, one
    instruction is asked for that takes the place of the first.
    """
    most = most if source is None else 1

    def read(reply: BaseModel) -> list[Edit]:
        for edit in reply.edits:
            if edit.fault > len(faults):
                raise ReplyError(f"`fault` is {edit.fault}, and the faults are numbered from 1 to {len(faults)}.")
        return reply.edits

    return writer.question(
        "instruct",
        edits_reply(most),
        prompt=prompt,
        images=[source, image],
        mask=mask,
        read=read,
        editing=source is not None,
        faults=[fault.model_dump() for fault in faults],
        k=most,
    )


def count_words(text: str) -> int:
    return len(_WORD.findall(text))


def restates(instruction: str, prompt: str) -> bool:
    """Whether an instruction says the whole prompt again, which an editor answers with another picture."""
    said, asked = (set(_WORD.findall(text.casefold())) for text in (instruction, prompt))
    return len(asked) >= _SHORT_PROMPT and asked <= said


# What a dry run shows in place of a critique.
EXAMPLE = Fault(what="A hand has six fingers.", where="the hand at the left", kind="anatomy", severity=2)
