"""Soft-TIFA: a picture by the probability that a vision model gives to the expected answers of questions about it."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

from PIL import Image

from ..chat import ChatModel, ChatRequest, HTTPChatModel
from ..digests import image_digest
from .parsing import ReplyError
from .prompts import render_content, template_id
from .questions import Question, ask, content_key
from .stats import JudgeStats
from .store import StoredAnswer, VerdictStore


_TEMPLATE = "soft_tifa.en"
_NO_ANSWER = (
    "None of the answers there could be is among the likely first tokens of the reply; of a model that thinks first switch "
    "that off, with `judge_extra_body`."
)
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def soft_tifa_scores(probabilities: Sequence[float | None]) -> dict[str, float | None]:
    """
    What the questions about one picture add up to.

    Args:
        probabilities (`Sequence[float]`): probability of the expected answer to each question; `None` where there was no
            answer.

    Returns:
        `dict[str, float]`: `am` and `gm`, the arithmetic and the geometric mean; `None` where an answer is missing.
    """
    if not len(probabilities) or None in probabilities:
        return {"am": None, "gm": None}
    gm = math.exp(fmean(map(math.log, probabilities))) if min(probabilities) > 0 else 0.0
    return {"am": fmean(probabilities), "gm": gm}


class SoftTIFA:
    """
    Soft-TIFA of GenEval 2 ([paper](https://huggingface.co/papers/2512.16853)), as a reward function in TRL's protocol: the
    columns `prompt` and `vqa_list` of the [prompt set](prompt_sets.md) `geneval2`, or of rows of your own.

    A question is answered by the first token of the reply, whose probability is not divided by that of other answers: what
    the model gives to `Yes` and `yes`, with and without a space, and for a number to its word in both spellings and its
    digit. A model that names none of the answers there could be among its 20 likeliest tokens did not answer: that
    question is missing, and so is the picture's score. So is an answer of more than one token, such as 10 in digits, whose
    first token would be that of another.

    Args:
        model (`str` or [`ChatModel`]): the vision model, by the name its server knows, or a chat model.
        base_url (`str`, *optional*): URL of its OpenAI-compatible server, which has to send log-probabilities.
        api_key (`str`, *optional*): API key of the server.
        combine (`str`, *optional*, defaults to `"gm"`): `"am"` for the mean over the questions, `"gm"` for the geometric
            one, which is near 0 where any answer is.
        store (`str` or `Path`, *optional*): SQLite file that keeps every question and answer.

    Example:
    ```python
    >>> reward = SoftTIFA("Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1")
    >>> reward(["two dogs"], [image], vqa_list=[[["How many dogs are in the image?", "two"]]])
    [0.93]
    ```
    """

    def __init__(
        self,
        model: str | ChatModel,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        combine: Literal["am", "gm"] = "gm",
        store: str | Path | None = None,
    ):
        if combine not in ("am", "gm"):
            raise ValueError(f"combine={combine!r} is neither 'am' nor 'gm'.")
        self.model = HTTPChatModel(model, base_url=base_url, api_key=api_key) if isinstance(model, str) else model
        self.combine = combine
        self.store = VerdictStore(store)
        self.__name__ = f"soft_tifa_{combine}"  # what metrics are filed under

    def check(self) -> None:
        """
        Find out whether the model can be asked and sends log-probabilities.

        Raises:
            `ConnectionError`: when a server does not answer.
            `PermissionError`: when it refuses the credentials.
            `ValueError`: when it does not serve the model, or not what is needed.
        """
        self.store.get([])  # a store that cannot be used is found now, too
        self.model.check()
        picture = Image.new("RGB", (64, 64), "red")
        # of both kinds: a model in this process may have a number in more than one token
        asked = [("Is the image red?", "Yes"), ("How many images are there?", "one")]
        for reply in self.model.complete(
            [_request(picture, question, answer_labels(word)) for question, word in asked]
        ):
            problem = _NO_ANSWER if reply.failure is None else reply.failure.message
            if reply.failure is not None or not reply.choice_logprobs:
                raise ValueError(f"Soft-TIFA cannot be asked of {self.model.model}: {problem}")

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[Image.Image],
        vqa_list: Sequence[Sequence[Sequence[str]]],
        **columns,
    ) -> list[float | None]:
        atoms, _ = self.atoms(completions, vqa_list)
        return [soft_tifa_scores(probabilities)[self.combine] for probabilities in atoms]

    def atoms(
        self, images: Sequence[Image.Image], vqa_lists: Sequence[Sequence[Sequence[str]]]
    ) -> tuple[list[list[float | None]], JudgeStats]:
        """
        Ask every question about every picture.

        Args:
            images (`Sequence[PIL.Image.Image]`): the pictures.
            vqa_lists (`Sequence`): for each picture the pairs of a question and its expected answer.

        Returns:
            `tuple(list[list[float | None]], JudgeStats)`: for each picture and question the probability of the expected
            answer, `None` where there was none; and what it cost.

        Raises:
            `ValueError`: when an expected answer is not one word.
        """
        asked = [
            [self._question(image, image_digest(image), question, expected) for question, expected in questions]
            for image, questions in zip(images, vqa_lists, strict=True)
        ]
        answers, stats = ask([q for questions in asked for q in questions], self.model, self.store)
        found = [[answers[q.blank.key] for q in questions] for questions in asked]
        return [
            [q.read(a) if a.status == "answered" else None for q, a in zip(questions, some, strict=True)]
            for questions, some in zip(asked, found, strict=True)
        ], stats

    def _question(self, image: Image.Image, digest: str, question: str, expected: str) -> Question:
        labels = answer_labels(expected)
        template = template_id(_TEMPLATE)
        blank = StoredAnswer(
            key=content_key(self.model.model, self.model.settings, template, question, list(labels), digest),
            status="failed",
            model=self.model.model,
            template=template,
            rubric="",
            prompt=question,
            images=(digest,),
            positions=(0,),
            asked=0,
            server=self.model.settings.get("server"),
        )
        return Question(
            blank,
            request=lambda: _request(image, question, labels),
            read=lambda answer: answer_probability(answer, labels),
        )


def _request(image: Image.Image, question: str, labels: dict[str, bool]) -> ChatRequest:
    content = render_content(_TEMPLATE, [image], question=question)
    return ChatRequest([{"role": "user", "content": content}], choices=tuple(labels), max_tokens=1)


def answer_labels(expected: str) -> dict[str, bool]:
    """The spellings of all answers that there could be, and whether each is the expected one."""
    word = expected.strip().lower()
    if len(word.split()) != 1:
        raise ValueError(f"A question of `vqa_list` expects {expected!r}; give one word, such as Yes or two.")
    if word in ("yes", "no"):
        return {spelling: spelling.lower() == word for spelling in ("Yes", "yes", "No", "no")}
    if word in _WORDS or word in map(str, range(1, 10)):
        number = _WORDS.index(word) + 1 if word in _WORDS else int(word)
        return {
            spelling: number == i
            for i, name in enumerate(_WORDS, start=1)
            # the first token of 10 is that of 1
            for spelling in (name, name.capitalize(), *([str(i)] if i < 10 else []))
        }
    return dict.fromkeys((word, word.capitalize()), True)


def answer_probability(answer: StoredAnswer, labels: dict[str, bool]) -> float:
    logprobs = answer.choice_logprobs or {}
    if not logprobs:
        raise ReplyError(_NO_ANSWER)
    # in the order of the labels, so that the sum does not depend on the server's
    return min(1.0, sum(math.exp(logprobs[name]) for name, right in labels.items() if right and name in logprobs))
