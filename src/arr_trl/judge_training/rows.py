"""Rows that a judge is trained on, made of labelled pairs in the words that it will be asked in."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from datasets import Dataset
from transformers import ProcessorMixin

from ..data import MASK_COLUMN, SOURCE_COLUMN, load_image, undecoded
from ..judges import JudgeRow, Preset
from ..judges.preset_questions import Pictures, View, messages_of, shown_by, single_views
from ..judges.readers import LabelReader


SIDES = ("chosen", "rejected")


def check_preset(preset: Preset, pairs: Dataset) -> None:
    """
    Find out whether pairs can be made into rows of a preset's question.

    Args:
        preset ([`~arr_trl.judges.Preset`]): what is asked.
        pairs ([`~datasets.Dataset`]): rows with `prompt`, `chosen` and `rejected`.

    Raises:
        `ValueError`: with a sentence that says what to change.
    """
    if preset.kind != "pointwise" or len(preset.asks) != 1 or preset.asks[0].each is not None:
        raise ValueError(
            f"The preset {preset.name} ({preset.kind}, {len(preset.asks)} question(s)) cannot be trained on pairs: a label says "
            "which picture is better, so the preset has to have one question about one candidate, beside its source "
            "for an edit."
        )
    if preset.before is not None:
        raise ValueError(
            f"The preset {preset.name} asks for {preset.before.name} first, which pairs do not have. Let `arr-trl judge "
            "traces` write them, and train on its folder with method='traces'."
        )
    if preset.task == "image-editing" and SOURCE_COLUMN not in pairs.column_names:
        raise ValueError(
            f"The pairs have no `{SOURCE_COLUMN}`, which the preset {preset.name} shows: it judges edits."
        )


def check_labels(preset: Preset, processor: ProcessorMixin) -> None:
    """
    Find out whether a preset is read at the first token, and whether its labels are one token each for a model.

    Raises:
        `ValueError`: with a sentence that says what to change.
    """
    read = preset.asks[0].read
    if not isinstance(read, LabelReader):
        raise ValueError(
            f"The preset {preset.name} is read from a text; method='first-token' needs one whose reader has `labels`. Train "
            f"it with method={'gcpo' if preset.before is None else 'traces'!r}."
        )
    encode = partial(processor.tokenizer.encode, add_special_tokens=False)
    for label in read.labels:
        alone, answered = encode(label), encode(f"{label}\nfor")
        if len(alone) != 1 or answered[0] != alone[0]:
            raise ValueError(
                f"The label {label!r} of the preset {preset.name} is not one token of this model at the beginning of an "
                "answer; choose labels that are, such as Yes and No or single digits."
            )


def check_traces(preset: Preset, processor: ProcessorMixin | None = None) -> None:
    """
    Find out whether a preset is read from a text, before which there is room for reasons.

    Raises:
        `ValueError`: with a sentence that says what to change.
    """
    if preset.asks[0].read.choices(["", "0", "0"]) is not None:
        raise ValueError(
            f"The preset {preset.name} is read at the first token, which leaves no traces to compare; train it with "
            "method='first-token'."
        )


def question_rows(pairs: Dataset, preset: Preset) -> Dataset:
    """
    Two rows for each pair, one after the other: the question about the preferred picture, and about the other one.

    Args:
        pairs ([`~datasets.Dataset`]):
            Rows with `prompt`, `chosen`, `rejected`, and where there are any `source_image` and `rationale`, of
            [`~arr_trl.data.preference_rows.preference_rows`]. Pictures are decoded when a row's turn comes.
        preset ([`~arr_trl.judges.Preset`]): what is asked.

    Returns:
        [`~datasets.Dataset`]: rows with `prompt`, a list of messages; `images`, its pictures in their order; `pair`, the
            number of the pair; and `side`, `"chosen"` or `"rejected"`.
    """
    return _rows(pairs, partial(_question_row, preset))


def answer_rows(pairs: Dataset, preset: Preset) -> Dataset:
    """
    [`question_rows`] with their `completion`: the label of the preset with the highest value for the preferred picture, that
    with the lowest for the other one, and behind it why, where the pair has a `rationale`.
    """
    return _rows(pairs, partial(_answer_row, preset))


def _rows(pairs: Dataset, make: Any) -> Dataset:
    order = Dataset.from_dict({"pair": [i for i in range(len(pairs)) for _ in SIDES], "side": [*SIDES] * len(pairs)})
    stored = undecoded(pairs)

    def made(batch: dict[str, list]) -> dict[str, list]:
        return as_batch([make(stored[i], i, side) for i, side in zip(batch["pair"], batch["side"], strict=True)])

    return order.with_transform(made)


def as_batch(rows: list[dict[str, Any]]) -> dict[str, list]:
    """Rows as the columns of a batch, which a transform of a dataset returns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def asked_about(
    preset: Preset,
    prompt: str,
    image: Any,
    source: Any = None,
    given: Mapping[str, Any] | None = None,
    mask: Any = None,
) -> dict[str, Any]:
    """
    What a judge is asked about one picture, as TRL takes it.

    Args:
        preset ([`~arr_trl.judges.Preset`]): the question.
        prompt (`str`): what the picture was made for.
        image (`Any`): the picture, decoded or as it is stored.
        source (`Any`, *optional*): what was edited, one picture or several.
        given (`Mapping`, *optional*): further variables of the question.
        mask (`Any`, *optional*): what of the source was to be drawn anew, white.

    Returns:
        `dict`: `prompt`, a list of messages with a place for each picture, and `images`, the pictures in their order.
    """
    pictures = Pictures(preset.image)
    source = load_image(source) if source else None
    row = JudgeRow(prompt, (load_image(image),), source, columns={MASK_COLUMN: mask})
    ((view,),) = single_views(preset, row, 0, pictures)
    return asked_in(preset, prompt, view, pictures, given)


def asked_in(
    preset: Preset, prompt: str, view: View, pictures: Pictures, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a judge is asked about a view, as [`asked_about`] has it."""
    ask = preset.asks[0]
    messages = messages_of(ask, prompt, shown_by(ask, view.images), given or {}, pictures)
    images = [part["image"] for message in messages for part in message["content"] if part["type"] == "image"]
    placed = [
        m | {"content": [{"type": "image"} if part["type"] == "image" else part for part in m["content"]]}
        for m in messages
    ]
    return {"prompt": placed, "images": images}


def answered(text: str) -> list[dict[str, Any]]:
    """A `completion`, as TRL takes it."""
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def _question_row(preset: Preset, stored: Mapping[str, Any], number: int, side: str) -> dict[str, Any]:
    columns = preset.asks[0].columns
    given = {name: stored[name] for name in columns if isinstance(stored.get(name), str | int | float)}
    source, mask = stored.get(SOURCE_COLUMN), stored.get(MASK_COLUMN)
    question = asked_about(preset, stored["prompt"], stored[side], source, given, mask)
    return question | {"pair": number, "side": side}


def _answer_row(preset: Preset, stored: Mapping[str, Any], number: int, side: str) -> dict[str, Any]:
    labels = preset.asks[0].read.labels
    answer = (max if side == "chosen" else min)(labels, key=labels.get)
    if stored.get("rationale"):
        answer = f"{answer}\n{stored['rationale']}"
    return _question_row(preset, stored, number, side) | {"completion": answered(answer)}
