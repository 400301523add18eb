"""The embedded judge of TinyScenes: a chat model that answers what a VLM would be asked by reading the pixels."""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from ..chat import ChatFailure, ChatReply, ChatRequest, ChatUsage
from ..rubrics import Criterion, Rubric
from .judge_formats import published_form, wants_points
from .judge_tasks import CaptionTask, EditTask, parse_task
from .rubric_writer import GENERAL, answer_writing
from .scenes import read


_CRITERION = re.compile(r"^(?P<number>\d+)\. (?P<text>.*?)(?: \((?P<notes>[^()]*)\))?$", re.MULTILINE)
# What stands before the picture that an instruction was applied to.
_SOURCE = re.compile(r"(BASE image|原图)\s*[:：]\s*$")


def zero_shot_rubric() -> Rubric:
    """The rubric of TinyScenes, as one would write it from the captions alone."""
    criteria = [Criterion(text=text, theme=theme) for theme, text in GENERAL.values()]
    return Rubric(name="tiny-scenes", criteria=criteria)


def edit_rubric() -> Rubric:
    """The rubric of TinyScenes editing, as one would write it from the instructions alone."""
    return Rubric(
        name="tiny-scenes-edit",
        task="image-editing",
        criteria=[
            Criterion(text="What the instruction asks for is done, to the object it names.", theme="Edit"),
            Criterion(text="Every color that was not to change is kept from the BASE image.", theme="Preservation"),
            Criterion(text="Every shape that was not to change is kept from the BASE image.", theme="Preservation"),
            Criterion(
                text="Every object that was not to be moved has kept its position in the BASE image.",
                theme="Preservation",
            ),
            Criterion(
                text="The number of objects is right: nothing stray, and nothing missing that was not to be removed.",
                theme="Preservation",
            ),
        ],
    )


class TinyScenesJudge:
    """
    A chat model that knows nothing but the messages it gets: it finds the criteria, the caption or the instruction, and
    the images in them, reads the images with [`~arr_trl.tiny_scenes.scenes.read`] and answers in the JSON that the
    schema asks for, or in the form of the published judge whose question it is. An instruction is judged against the
    image it was applied to, which comes first. A criterion it does not understand leaves all images level.

    Its faults are drawn from `seed` and the content of the request: the same question always gets the same answer,
    whatever was asked before it.

    Args:
        noise (`float`, *optional*, defaults to `0.0`):
            Share of answers that are drawn at random.
        position_bias (`float`, *optional*, defaults to `0.0`):
            Share of answers that prefer the images in the order shown, whatever they show.
        failure_rate (`float`, *optional*, defaults to `0.0`):
            Share of replies that are not the JSON asked for.
        latency_s (`float`, *optional*, defaults to `0.0`):
            Seconds that every call takes, however many requests it holds.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the faults.
    """

    model = "tiny_scenes"

    def __init__(
        self,
        noise: float = 0.0,
        position_bias: float = 0.0,
        failure_rate: float = 0.0,
        latency_s: float = 0.0,
        seed: int = 0,
    ):
        for name, share in (("noise", noise), ("position_bias", position_bias), ("failure_rate", failure_rate)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share} is a share of the answers; it has to lie between 0 and 1.")
        self.noise = noise
        self.position_bias = position_bias
        self.failure_rate = failure_rate
        self.latency_s = latency_s
        self.settings = {"noise": noise, "position_bias": position_bias, "failure_rate": failure_rate, "seed": seed}
        self.seed = seed

    def check(self) -> None:
        """Always there."""

    def complete(
        self, requests: list[ChatRequest], on_reply: Callable[[int, ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """Answer every request, in order; each image is read once, however many requests show it."""
        if self.latency_s:
            time.sleep(self.latency_s)
        seen: dict[bytes, list] = {}
        replies = []
        for i, request in enumerate(requests):
            replies.append(self._answer(request, seen))
            if on_reply is not None:
                on_reply(i, replies[i])
        return replies

    def _answer(self, request: ChatRequest, seen: dict[bytes, list]) -> ChatReply:
        parts = [part for message in request.messages for part in message["content"]]
        images = [part["image"] for part in parts if part["type"] == "image"]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        first_image = next((i for i, part in enumerate(parts) if part["type"] == "image"), len(parts))
        question = "\n".join(part["text"] for part in parts[:first_image])
        usage = ChatUsage(prompt_tokens=sum(map(len, texts)) // 4 + 64 * len(images))
        criteria = list(_CRITERION.finditer(question))
        data = [image.tobytes() for image in images]
        draws = _draws(self.seed, texts, data)
        beside_the_point = ChatReply(text="The first image seems nicer", usage=usage, latency_s=self.latency_s)
        fails = draws.random() < self.failure_rate
        if (form := published_form(request, "\n".join(texts))) is not None or wants_points("\n".join(texts)):
            return beside_the_point if fails else self._published(form, "\n".join(texts), images, usage, draws, seen)
        try:
            written = answer_writing(request.json_schema, texts, images, draws)
            if written is not None:
                return beside_the_point if fails else self._reply(written, usage)
            task = parse_task(question[criteria[-1].end() :] if criteria else question)
            if images and isinstance(task, EditTask) and not _SOURCE.search(question):
                raise ValueError(f"The picture that {str(task.edit)!r} was applied to is not shown as BASE image.")
        except ValueError as error:
            return ChatReply(failure=ChatFailure("refusal", str(error)), usage=usage, latency_s=self.latency_s)
        if not images:  # asked for criteria, not for a verdict
            answer = {"criteria": [{"text": text, "essential": False} for text in task.criteria()]}
            return self._reply(answer, usage)
        if fails:
            return beside_the_point
        met = self._met(task, images, seen)
        findings = _findings(task, criteria, met)
        if draws.random() < self.noise:
            findings = _regardless(
                [float(score) for score in draws.permutation(len(met))], findings, "It looks better."
            )
        if draws.random() < self.position_bias:
            falling = [float(len(met) - position) for position in range(len(met))]
            findings = _regardless(falling, findings, "The first image looks better.")
        if request.choices is not None:
            return ChatReply(choice_logprobs=_choice(findings.overall), usage=usage, latency_s=self.latency_s)
        if request.json_schema is not None and "score" in request.json_schema["properties"]:
            return self._reply(_scored(findings, request.json_schema["properties"]["score"]), usage)
        ranked = _ranked(findings)
        if request.json_schema is not None and "criteria" not in request.json_schema["properties"]:
            del ranked["criteria"]
        return self._reply(ranked, usage)

    def _published(
        self,
        form: Callable[[list[float]], ChatReply] | None,
        text: str,
        images: list[Image.Image],
        usage: ChatUsage,
        draws: np.random.Generator,
        seen: dict[bytes, list],
    ) -> ChatReply:
        """The answer to a question of a published judge: how much of what was asked for each candidate shows."""
        try:
            task = parse_task(text)
        except ValueError as error:
            if len(images) != 1:
                return ChatReply(failure=ChatFailure("refusal", str(error)), usage=usage, latency_s=self.latency_s)
            task = None  # a picture alone: how it looks, of which this judge knows nothing
        if form is None:
            points = [{"question": text, "category": "Follow"} for text in task.criteria()]
            return self._reply(points, usage)
        if task is None:
            scores = [1.0]
        else:
            met = self._met(task, images, seen)
            scores = [sum(m[name] for name in task.truths) / len(task.truths) for m in met]
        if draws.random() < self.noise:
            scores = draws.random(len(scores)).tolist()
        if draws.random() < self.position_bias:
            scores = [1.0 - place / len(scores) for place in range(len(scores))]
        reply = form(scores)
        tokens = replace(usage, completion_tokens=len(reply.text or "") // 4)
        return replace(reply, usage=tokens, latency_s=self.latency_s)

    def _met(
        self, task: CaptionTask | EditTask, images: list[Image.Image], seen: dict[bytes, list]
    ) -> list[dict[str, float]]:
        """What each candidate shows of what was asked for, by name: a judge that sees other things has another."""
        contents = [image.tobytes() for image in images]
        for image, content in zip(images, contents, strict=True):
            if content not in seen:
                seen[content] = read(image)
        return task.met([seen[content] for content in contents])

    def _reply(self, answer: dict[str, Any] | list[dict[str, Any]], usage: ChatUsage) -> ChatReply:
        text = json.dumps(answer)
        return ChatReply(text=text, usage=ChatUsage(usage.prompt_tokens, len(text) // 4), latency_s=self.latency_s)


@dataclass(frozen=True)
class _Findings:
    """Per criterion its number and the points of every image, the overall scores, and what they rest on."""

    criteria: list[tuple[int, list[float]]]
    overall: list
    reason: str


def _findings(task: CaptionTask | EditTask, criteria: list[re.Match], met: list[dict[str, float]]) -> _Findings:
    """Essential criteria count first, by weight, the others where those are level. Asked under none, all it sees does."""
    if not criteria:
        return _Findings(
            [], [sum(m[name] for name in task.truths) for m in met], "Everything that can be seen counts."
        )
    scores = [[0.0, 0.0] for _ in met]
    per_criterion, decided_by = [], []
    for match in criteria:
        notes = match["notes"] or ""
        subject = task.subject_of(match["text"])
        weight = re.search(r"weight ([0-9.e+-]+)", notes)
        points = [float(m[subject]) if subject else 0.0 for m in met]
        for score, point in zip(scores, points, strict=True):
            score["essential" not in notes] += point * (float(weight[1]) if weight else 1.0)
        per_criterion.append((int(match["number"]), points))
        if subject and len(set(points)) > 1:
            decided_by.append(subject)
    reason = f"The images differ in {', '.join(decided_by)}." if decided_by else "The images are level."
    return _Findings(per_criterion, [tuple(score) for score in scores], reason)


def _regardless(scores: list[float], findings: _Findings, reason: str) -> _Findings:
    """The same scores on everything, whatever the images show."""
    return _Findings([(number, scores) for number, _ in findings.criteria], scores, reason)


def _ranks(scores: list) -> list[int]:
    """1 for the highest score; equal scores have equal ranks."""
    return [1 + sum(other > score for other in scores) for score in scores]


def _ranked(findings: _Findings) -> dict[str, Any]:
    criteria = [{"criterion": number, "ranks": _ranks(points)} for number, points in findings.criteria]
    return {"criteria": criteria, "reason": findings.reason, "ranks": _ranks(findings.overall)}


def _scored(findings: _Findings, schema: dict[str, Any]) -> dict[str, Any]:
    """The share of criteria that the one image meets, from worst to best score."""
    low, high = schema["minimum"], schema["maximum"]
    points = [min(points[0], 1.0) for _, points in findings.criteria]
    criteria = [
        {"criterion": number, "score": round(low + point * (high - low))}
        for (number, _), point in zip(findings.criteria, points, strict=True)
    ]
    share = sum(points) / max(1, len(points))
    return {"criteria": criteria, "reason": f"It meets {share:.0%}.", "score": round(low + share * (high - low))}


def _choice(overall: list) -> dict[str, float]:
    """Log-probabilities of "1" and "2": 9 to 1 for the better image."""
    first, second = overall
    p = 0.5 if first == second else 0.9 if first > second else 0.1
    return {"1": math.log(p), "2": math.log(1 - p)}


def _draws(seed: int, texts: list[str], images: list[bytes]) -> np.random.Generator:
    digest = hashlib.blake2b(repr((seed, texts)).encode(), digest_size=8)
    for image in images:
        digest.update(image)
    return np.random.default_rng(int.from_bytes(digest.digest(), "little"))
