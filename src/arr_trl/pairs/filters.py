"""Which edits are none, which are another picture, and which changes are not worth asking for."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .config import RichPairsConfig
from .replies import Edit, Fault, count_words, restates


_CHANGED = 32  # of 255, by which a pixel has to change to count as another one


def usable_edits(edits: Sequence[Edit], prompt: str, config: RichPairsConfig, again: bool) -> list[Edit]:
    """
    The changes that are worth asking for.

    Args:
        edits (`Sequence[Edit]`): as they were written.
        prompt (`str`): what the picture was made for.
        config ([`RichPairsConfig`]): `min_confidence`, `max_instruction_words`.
        again (`bool`): whether each is a whole instruction in place of `prompt`, which has to say it all again.
    """
    return [
        edit
        for edit in edits
        if edit.confidence >= config.min_confidence
        and count_words(edit.instruction) <= config.max_instruction_words
        and (again or not restates(edit.instruction, prompt))
    ]


def joined(edits: Sequence[Edit]) -> str:
    """One instruction of several changes."""
    return ". ".join(" ".join(edit.instruction.split()).rstrip(" .。") for edit in edits)


def what_an_edit_did(
    before: Image.Image, after: Image.Image, faults: Sequence[Fault], config: RichPairsConfig, again: bool
) -> str | None:
    """
    Why an edited picture is no use: it is the picture as it was, or another picture altogether. `None` where it is.

    Args:
        before (`PIL.Image.Image`): the picture.
        after (`PIL.Image.Image`): the picture edited.
        faults (`Sequence[Fault]`): what was to be mended.
        config ([`RichPairsConfig`]): `min_pixel_change`, `max_changed_share`.
        again (`bool`): whether `after` was not made of `before`, but like it of a source.
    """
    if before.size != after.size:
        after = after.resize(before.size, Image.Resampling.LANCZOS)
    changed_HWC = np.abs(np.asarray(before, dtype=np.int16) - np.asarray(after, dtype=np.int16))
    if changed_HWC.mean() < config.min_pixel_change:
        return "edit changed nothing"
    share = (changed_HWC.max(-1) > _CHANGED).mean()
    if not again and share > config.max_changed_share and all(fault.local for fault in faults):
        return "edit changed too much"
    return None
