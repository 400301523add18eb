"""Whether a picture shows the text that it was asked to show."""

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from ..rgb import as_rgb
from .scorer import Scorer


_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|「([^」]+)」|『([^』]+)』')


def ocr_score(target: str, read: str) -> float:
    """
    How much of a text was read, whatever its case and spaces, as in Flow-GRPO
    ([paper](https://huggingface.co/papers/2505.05470)).

    Args:
        target (`str`): the text that was asked for.
        read (`str`): what was read.

    Returns:
        `float`: 1 where the target is part of it, else 1 less their edit distance in lengths of the target, 0 at least.
    """
    from rapidfuzz.distance import Levenshtein

    target, read = ("".join(text.split()).lower() for text in (target, read))
    if target in read:
        return 1.0
    return 1 - min(Levenshtein.distance(target, read), len(target)) / len(target)


class OCRScore(Scorer):
    """
    Whether a picture shows the text that it was asked to show, 0 to 1: see [`~arr_trl.rewards.ocr_score`]. The text is that
    of the dataset's column `target_text`, or else what stands first in quotes in the prompt. A prompt with neither has no
    score, and so has a picture that the reader fails on.

    Needs the `ocr` extra: `pip install arr_trl[ocr]`.

    Args:
        read (`Callable`, *optional*):
            Takes a PIL image and returns the text in it; by default [RapidOCR](https://github.com/RapidAI/RapidOCR), which
            reads English and Chinese on the CPU.
    """

    licence = "Apache-2.0"

    def __init__(self, read: Callable[[Image.Image], str] | None = None):
        self.read = read
        self.__name__ = "ocr"

    def check(self) -> None:
        """
        Raises:
            `ImportError`: when a package is not installed.
        """
        needed = ["rapidfuzz"] if self.read is not None else ["rapidfuzz", "rapidocr", "onnxruntime"]
        missing = [name for name in needed if find_spec(name) is None]
        if missing:
            raise ImportError(f"The ocr scorer needs {' and '.join(missing)}; `pip install arr_trl[ocr]` has them.")
        if self.read is None:
            self.read = _rapid_ocr()

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[Image.Image],
        target_text: Sequence[str | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        self.check()
        given = target_text or [None] * len(prompts)
        targets = [text or quoted(prompt) for text, prompt in zip(given, prompts, strict=True)]
        return [
            None if not (target and target.strip()) else self._score(target, image)
            for target, image in zip(targets, completions, strict=True)
        ]

    def _score(self, target: str, image: Image.Image) -> float | None:
        try:
            read = self.read(as_rgb(image))
        except Exception:  # whatever a reader raises on a picture: it has not read it, which is not "nothing to read"
            return None
        return ocr_score(target, read)


def quoted(prompt: str) -> str | None:
    """What stands first in double quotes, `None` where nothing does."""
    found = _QUOTED.search(prompt)
    return None if found is None else next(filter(None, found.groups()))


def _rapid_ocr() -> Callable[[Image.Image], str]:
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Global.log_level": "critical"})
    return lambda image: " ".join(engine(np.asarray(image)[..., ::-1]).txts or ())  # as OpenCV has colours
