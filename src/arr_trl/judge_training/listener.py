"""Rewards of reasons by who listens to them: whether a model that does not learn comes to the right choice by them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset

from ..chat import ChatModel, ChatReply, ChatRequest
from ..data import SOURCE_COLUMN, load_image, undecoded
from ..judges import JudgeRow, Preset
from ..judges.parsing import ReplyError
from ..judges.preset_questions import Pictures, pair_view
from ..judges.readers import LabelReader, WinnerReader
from ..trainer.buffer import random_at
from .rows import as_batch, asked_in
from .trace_rewards import text_of


# of format, accuracy and listener, as the paper has them
LISTENER_WEIGHTS = (1.0, 0.5, 0.5)
_ANSWER = re.compile(r"(<answer>).*?(</answer>)", re.DOTALL)
_ASKED = (
    "Which of the two is better, by what was said? Answer with 1 for the first or 2 for the second, and nothing else."
)
_CHOICES = LabelReader(labels={"1": 1.0, "2": 0.0})
Reward = Callable[..., list[float | None]]


def choice_rows(pairs: Dataset, preset: Preset, seed: int = 0) -> Dataset:
    """
    A row for each pair: the question about both pictures, in an order of its own.

    Args:
        pairs ([`~datasets.Dataset`]): as for [`question_rows`].
        preset ([`~arr_trl.judges.Preset`]): one question about two pictures, whose answer is a winner in `<answer>`.
        seed (`int`, *optional*, defaults to `0`): seed of the orders.

    Returns:
        [`~datasets.Dataset`]: rows with `prompt`, a list of messages; `images`, its pictures in their order; and `winner`, 0
            or 1, the place of the preferred one.

    Raises:
        `ValueError`: when the preset asks another question.
    """
    _check_choice(preset)
    stored = undecoded(pairs)

    def made(batch: Mapping[str, list]) -> dict[str, list]:
        return as_batch([_choice_row(preset, stored[i], random_at(seed, i).getrandbits(1)) for i in batch["pair"]])

    return Dataset.from_dict({"pair": range(len(pairs))}).with_transform(made)


def listener_rewards(preset: Preset, listener: ChatModel) -> list[Reward]:
    """
    Three reward functions for TRL's [`~trl.GRPOTrainer`] and rows of [`choice_rows`], to be weighed by `LISTENER_WEIGHTS`
    (listener-rewarded thinking, [paper](https://huggingface.co/papers/2506.22832)): whether a trace can be read, whether its
    choice is right, and how likely the right choice is to a listener, who is shown the pictures and the trace without its
    answer.

    Args:
        preset ([`~arr_trl.judges.Preset`]): the question, whose reader reads the traces.
        listener ([`~arr_trl.chat.ChatModel`]): gives log-probabilities of two choices; it does not learn.

    Raises:
        `ValueError`: when the preset asks another question.
    """
    _check_choice(preset)
    ask = preset.asks[0]

    def chosen(completion: Any) -> int | None:
        """The place of the picture that a trace names; `None` for a tie; an error where it cannot be read."""
        first, second = (v[ask.name] for v in ask.read.read(ChatReply(text=text_of(completion)), ask.name).values)
        return None if first == second else int(second > first)

    def is_read(completion: Any) -> bool:
        try:
            chosen(completion)
        except ReplyError:
            return False
        return True

    def format_reward(completions: Sequence[Any], **columns: Any) -> list[float]:
        return [float(is_read(completion)) for completion in completions]

    def accuracy_reward(completions: Sequence[Any], winner: Sequence[int], **columns: Any) -> list[float | None]:
        return [
            float(chosen(completion) == right) if is_read(completion) else None
            for completion, right in zip(completions, winner, strict=True)
        ]

    def listener_reward(
        prompts: Sequence[list[dict[str, Any]]], completions: Sequence[Any], winner: Sequence[int], **columns: Any
    ) -> list[float | None]:
        requests = [listener_request(prompt, text_of(said)) for prompt, said in zip(prompts, completions, strict=True)]
        return [_heard(reply, right) for reply, right in zip(listener.complete(requests), winner, strict=True)]

    return [format_reward, accuracy_reward, listener_reward]


def listener_request(prompt: list[dict[str, Any]], trace: str) -> ChatRequest:
    """
    What a listener is asked about a trace: what the judge was asked, what it said without its answer, and for a choice.

    Args:
        prompt (`list[dict]`): messages, with their pictures.
        trace (`str`): what the judge said.
    """
    reasons = {"role": "assistant", "content": [{"type": "text", "text": _ANSWER.sub(r"\1…\2", trace)}]}
    choice = {"role": "user", "content": [{"type": "text", "text": _ASKED}]}
    return ChatRequest([*prompt, reasons, choice], choices=_CHOICES.choices(), max_tokens=1)


def _heard(reply: ChatReply, winner: int) -> float | None:
    """The probability of the right choice; `None` where the listener gave no answer."""
    if reply.failure is not None:
        return None
    try:
        first = _CHOICES.read(reply, "first").values[0]["first"]
    except ReplyError:
        return None
    return first if winner == 0 else 1 - first


def _choice_row(preset: Preset, stored: Mapping[str, Any], winner: int) -> dict[str, Any]:
    images = [load_image(stored[side]) for side in ("chosen", "rejected")]
    source = stored.get(SOURCE_COLUMN)
    source = load_image(source) if source else None
    row = JudgeRow(stored["prompt"], tuple(images[:: -1 if winner else 1]), source, columns=stored)
    question = asked_in(preset, row.prompt, pair_view(row, 0, 1), Pictures(preset.image))
    return question | {"winner": winner}


def _check_choice(preset: Preset) -> None:
    read = preset.asks[0].read
    if (
        preset.kind != "pairwise"
        or len(preset.asks) != 1
        or not isinstance(read, WinnerReader)
        or read.where != "answer"
    ):
        raise ValueError(
            f"The preset {preset.name} is no question about two pictures whose answer is a winner in <answer>, which a listener "
            "is kept from, as that of `unifiedreward-think` is."
        )
