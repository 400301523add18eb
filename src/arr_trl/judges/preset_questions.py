"""The questions of a preset about a row: who is shown, in which words, and what an answer is filed under."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from PIL import Image

from ..chat import ChatModel, ChatReply, ChatRequest
from ..digests import image_digest
from .masks import named_with_mask, with_mask
from .preset import REFERENCE_COLUMN, Ask, ImageRule, Preset
from .questions import Question, content_key
from .readers import ExpectedReader, PrinciplesReader, Reading
from .row import JudgeRow
from .store import StoredAnswer


_MASK = "mask"  # what is shown with a source, though no template names it
_ANOTHER_SEED = 1_000_003  # of a second sample; further than there are passes
Picture = Image.Image | list[Image.Image]


class Pictures:
    """Pictures as they are shown, each made ready and hashed once, however many questions show it."""

    def __init__(self, rule: ImageRule):
        self.rule = rule
        self._known: dict[int, tuple[Image.Image, Image.Image, str]] = {}
        self._cells: dict[tuple[int, int, int], list[Image.Image]] = {}

    def shown(self, picture: Picture) -> Picture:
        if isinstance(picture, list):
            return [self._of(image)[1] for image in picture]
        return self._of(picture)[1]

    def digests(self, picture: Picture) -> list[str]:
        return [self._of(image)[2] for image in (picture if isinstance(picture, list) else [picture])]

    def cells(self, image: Image.Image, rows: int, columns: int) -> list[Image.Image]:
        """The pictures that a picture consists of, row by row."""
        self._of(image)  # keeps it, so that its id stays its own
        key = (id(image), rows, columns)
        if key not in self._cells:
            width, height = image.width / columns, image.height / rows
            self._cells[key] = [
                image.crop((round(x * width), round(y * height), round((x + 1) * width), round((y + 1) * height)))
                for y in range(rows)
                for x in range(columns)
            ]
        return self._cells[key]

    def _of(self, image: Image.Image) -> tuple[Image.Image, Image.Image, str]:
        if id(image) not in self._known:
            self._known[id(image)] = image, made_ready(image, self.rule), image_digest(image)
        return self._known[id(image)]


def made_ready(image: Image.Image, rule: ImageRule) -> Image.Image:
    """A picture in the size that a rule asks for; the picture itself where it has it."""
    pixels = image.width * image.height
    factor = min(1.0, rule.max_side / max(image.size))
    if rule.max_pixels is not None:
        factor = min(factor, math.sqrt(rule.max_pixels / pixels))
    if rule.min_pixels is not None and pixels * factor**2 < rule.min_pixels:
        factor = math.sqrt(rule.min_pixels / pixels)
    if factor == 1.0:
        return image
    size = [max(1, round(side * factor)) for side in image.size]
    return image.resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class View:
    """
    Who is shown together.

    Args:
        candidates (`tuple[int, ...]`): whom the numbers are about, in the order shown.
        images (`dict`): the pictures by role, the mask of an edit among them.
        against (`bool`): the numbers are about the reference, and count against the candidate.
    """

    candidates: tuple[int, ...]
    images: Mapping[str, Picture]
    against: bool = False


@dataclass
class Asked:
    """One view with its questions: the answers to all of them together are one opinion."""

    view: View
    questions: list[tuple[Ask, Question, Any]] = field(default_factory=list)

    def readings(self, answers: Mapping[str, StoredAnswer]) -> list[tuple[Ask, Reading]] | str:
        """What each question was answered, or why there is no opinion."""
        found = []
        for ask, question, item in self.questions:
            answer = answers[question.blank.key]
            if answer.status != "answered":
                return answer.problem or "It was not answered."
            found.append((ask, ask.read.read(answer, ask.name, item)))
        return found


def edited(row: JudgeRow) -> dict[str, Picture]:
    """What a row starts from, by role: its sources, and the mask where it has one."""
    return {"source": row.sources} | ({} if row.mask is None else {_MASK: row.mask})


def shown_by(ask: Ask, images: Mapping[str, Picture]) -> dict[str, Picture]:
    """Those of the pictures of a view that a question shows, the mask where it shows the source."""
    roles = [*dict.fromkeys(ask.images), *([_MASK] if _MASK in images and "source" in ask.images else [])]
    return {role: images[role] for role in roles}


def single_views(preset: Preset, row: JudgeRow, candidate: int, pictures: Pictures) -> list[list[View]]:
    """
    The views of one candidate alone, beside a reference, or in parts. Those of one list belong together: one that is
    missing leaves none of them.
    """
    image, source = row.images[candidate], edited(row)
    if preset.kind == "grid":
        cells = pictures.cells(image, *row.columns["grid"])
        return [[View((candidate,), source | {"first": a, "second": b})] for a, b in combinations(cells, 2)]
    if preset.kind == "reference":
        reference = reference_of(row)
        views = [View((candidate,), source | {"candidate": image, "reference": reference})]
        if preset.swap:
            views.append(View((candidate,), source | {"candidate": reference, "reference": image}, against=True))
        return [views]
    return [[View((candidate,), source | {"candidate": image})]]


def pair_view(row: JudgeRow, first: int, second: int) -> View:
    """Two candidates in the order shown."""
    images = {**edited(row), "first": row.images[first], "second": row.images[second]}
    return View((first, second), images)


def reference_of(row: JudgeRow) -> Image.Image:
    """The picture of the column `reference_image`, decoded."""
    found = row.columns[REFERENCE_COLUMN]
    if isinstance(found, Image.Image):
        return found
    from ..data import load_image  # judges of pictures in memory do without `datasets`

    return load_image(found)


@dataclass(frozen=True)
class Asking:
    """
    How a judge puts the questions of its preset.

    Args:
        preset ([`Preset`]): the preset.
        model ([`ChatModel`]): who is asked.
        seed (`int`): of the samples, where the temperature is above 0.
    """

    preset: Preset
    model: ChatModel
    seed: int

    def about(
        self, row: JudgeRow, view: View, number: int, points: list[dict[str, str]] | None, pictures: Pictures
    ) -> Asked:
        """All questions about a view, in pass `number`."""
        asked = Asked(view)
        for ask in self.preset.asks:
            for item in [None] if ask.each is None else row.columns[ask.each]:
                question = self.question(ask, row, view.images, number, item, points, pictures, view.candidates)
                asked.questions.append((ask, question, item))
        return asked

    def question(
        self,
        ask: Ask,
        row: JudgeRow,
        images: Mapping[str, Picture],
        number: int,
        item: Any,
        points: list[dict[str, str]] | None,
        pictures: Pictures,
        candidates: tuple[int, ...] = (),
    ) -> Question:
        preset = self.preset
        given = {name: _plain(value) for name, value in row.columns.items() if name in ask.columns}
        if points is not None and preset.before.name in ask.columns:
            given[preset.before.name] = points
        if item is not None:
            given["item"] = _plain(item)
        images = shown_by(ask, images)
        shown = [*ask.images, *([_MASK] if _MASK in images else [])]
        digests = [digest for role in shown for digest in pictures.digests(images[role])]
        sampling = self.sampling(number)
        blank = StoredAnswer(
            key=content_key(
                self.model.model,
                self.model.settings,
                self.preset.temperature,
                sampling,
                preset.name,
                preset.version,
                ask.identity,
                ask.read.choices(item),
                preset.image.model_dump(),
                row.prompt,
                given,
                [[role, pictures.digests(images[role])] for role in shown],
            ),
            status="failed",
            model=self.model.model,
            template=named_with_mask(f"{preset.name}/{preset.version}/{ask.name}-{ask.digest}", images.get(_MASK)),
            rubric="",
            prompt=row.prompt,
            images=tuple(digests),
            positions=candidates,
            asked=0,
            server=self.model.settings.get("server"),
        )
        read = ask.read.points if isinstance(ask.read, PrinciplesReader) else _reads(ask, item)
        return Question(
            blank,
            request=lambda: self.request(ask, row.prompt, images, given, item, sampling, pictures),
            read=read,
            once_more=self._another_sample,
        )

    def request(
        self,
        ask: Ask,
        prompt: str,
        images: Mapping[str, Picture],
        given: Mapping[str, Any],
        item: Any,
        sampling: dict[str, float],
        pictures: Pictures,
    ) -> ChatRequest:
        """No JSON schema goes with it: a grammar moves what a fine-tuned model would say."""
        choices = ask.read.choices(item)
        return ChatRequest(
            messages_of(ask, prompt, images, given, pictures),
            choices=choices,
            max_tokens=1 if choices else ask.max_tokens,
            temperature=self.preset.temperature,
            sampling=sampling,
        )

    def sampling(self, number: int) -> dict[str, float]:
        """The fields of a request in pass `number` that make another sample of it."""
        return {**self.preset.sampling, "seed": self.seed + number} if self.preset.temperature > 0 else {}

    def _another_sample(self, request: ChatRequest, answer: StoredAnswer) -> ChatRequest | None:
        """A reply format that was trained has no words for a repair: the question is put again, with another seed."""
        if not self.preset.resample or self.preset.temperature == 0 or request.choices is not None:
            return None
        return replace(request, sampling=request.sampling | {"seed": request.sampling["seed"] + _ANOTHER_SEED})


def messages_of(
    ask: Ask, prompt: str, images: Mapping[str, Picture], given: Mapping[str, Any], pictures: Pictures
) -> list[dict[str, Any]]:
    """
    A question as messages: what a judge is asked, and what one is trained on.

    Args:
        ask ([`Ask`]): the question.
        prompt (`str`): the caption or instruction.
        images (`dict`): pictures by their role, those that the question shows; see [`shown_by`].
        given (`dict`): variables of the template.
        pictures ([`Pictures`]): makes pictures what is shown of them.
    """
    shown = {role: pictures.shown(i) for role, i in images.items()}
    mask = shown.pop(_MASK, None)
    content = with_mask(ask.content(shown, **{**given, "prompt": prompt}), mask)
    system = [{"role": "system", "content": [{"type": "text", "text": ask.system}]}] if ask.system else []
    return [*system, {"role": "user", "content": content}]


def sample_item(ask: Ask) -> Sequence[str] | None:
    """An item of the list that a question is put for, to rehearse it."""
    if ask.each is None:
        return None
    expected = ask.read.expected if isinstance(ask.read, ExpectedReader) else 1
    return ["Yes" if place == expected else "Is there a picture?" for place in range(max(2, expected + 1))]


def _reads(ask: Ask, item: Any):
    def read(answer: StoredAnswer | ChatReply) -> Reading:
        return ask.read.read(answer, ask.name, item)

    return read


def _plain(value: Any) -> Any:
    """A value of a column as templates and keys take it."""
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value)
