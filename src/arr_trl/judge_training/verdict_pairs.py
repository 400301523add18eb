"""Labels of a judge in place of those of people: pairs of pictures, as a verdict store has them decided."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import datasets
from PIL import Image

from ..data import SOURCE_COLUMN, load_image
from ..data.preferences import Preference
from ..digests import image_digest
from ..judges import StoredAnswer, VerdictStore
from ..judges.choice import ChoiceMode
from ..judges.masks import parts_of
from ..judges.parsing import ReplyError
from ..judges.ranks import RanksMode


_MODES = {mode.template: mode for mode in (RanksMode("ranks"), ChoiceMode(tie_margin=0.0))}
_IMAGES = ("chosen", "rejected", SOURCE_COLUMN)


@dataclass(frozen=True)
class Teacher:
    """
    What a judge said and what it cost, from its store.

    Args:
        model (`str`): its chat model.
        rubric (`str`): name of the rubric that it judged by.
        pairs (`int`): pairs that it decided.
        agreement (`float`): share of them that were labelled as it says.
        questions (`float`): asked for each of them.
        prompt_tokens (`float`), completion_tokens (`float`), latency_s (`float`): of a pair.
        left_out (`dict[str, int]`): how many pairs have no label of it, by reason.
    """

    model: str
    rubric: str
    pairs: int
    agreement: float
    questions: float
    prompt_tokens: float
    completion_tokens: float
    latency_s: float
    left_out: dict[str, int]

    def beside(self, after: dict[str, Any]) -> list[str]:
        """What a pair costs it and the small judge, by what was measured of that; nothing of a run that asked nothing anew."""
        if not after["calls"]:
            return []
        asked = after["calls"] / after["pairs"]
        tokens = (after["prompt_tokens"] + after["completion_tokens"]) / after["pairs"]
        return [
            f"For a pair {self.model} was asked {self.questions:.1f} questions, of {self.prompt_tokens + self.completion_tokens:.0f} "
            f"tokens and {self.latency_s:.3f} s together; this judge {asked:.1f}, of {tokens:.0f} tokens and "
            f"{asked * after['latency_s']:.3f} s."
        ]


class StoredVerdicts:
    """
    The verdicts of one judge, looked up by what it was shown. A store keeps digests of pictures, and no pictures: those are
    in the pairs.

    Args:
        store ([`~arr_trl.judges.VerdictStore`]):
            What a judge under a rubric answered in ranks or choices, as a run, `arr-trl judge eval` or `evaluate` kept it.

    Raises:
        `ValueError`: when it holds no such verdicts, or those of several judges.
    """

    def __init__(self, store: VerdictStore):
        self.answers: dict[tuple, list[StoredAnswer]] = defaultdict(list)
        judges = {}
        for answer in store:
            mode = answer.template.split(".")[0]
            if answer.status != "answered" or mode not in _MODES:
                continue
            judges.setdefault((answer.model, answer.rubric), store.rubric(answer.rubric))
            sources, shown, _ = parts_of(answer)
            for i, one in enumerate(shown):
                for other in shown[i + 1 :]:
                    self.answers[answer.prompt, sources, frozenset((one, other))].append(answer)
        if not judges:
            raise ValueError(
                f"The verdict store {store.path} has no answers in ranks or choices under a rubric; give that of a judge with "
                "`judge_mode` ranks or choice."
            )
        if len(judges) > 1:
            named = ", ".join(f"{model} under {rubric.name}" for (model, _), rubric in judges.items())
            raise ValueError(
                f"The verdict store {store.path} has those of {len(judges)} judges ({named}); a small judge learns from one: give "
                "the store of a run, or of an evaluation, that asked one."
            )
        (((self.model, _), self.rubric),) = judges.items()

    def decided(
        self, prompt: str, images: Sequence[Image.Image], sources: Sequence[Image.Image] = ()
    ) -> tuple[int | None, str, list[StoredAnswer]]:
        """
        Which of two pictures the judge preferred, in every answer that shows both.

        Returns:
            `tuple[int | None, str, list[StoredAnswer]]`: 0 or 1, its words and its answers; or `None` and why there is no
                verdict.
        """
        first, second = map(image_digest, images)
        found = self.answers.get((prompt, tuple(map(image_digest, sources)), frozenset((first, second))), [])
        if not found:
            return None, "never judged", found
        try:
            read = [self._read(answer) for answer in found]
        except ReplyError:
            return None, "with an answer that cannot be read", found
        leads = {(said[first] > said[second]) - (said[first] < said[second]) for said, _ in read}
        if leads not in ({1}, {-1}):
            return None, "level, or another way in another order", found
        return int(leads == {-1}), read[0][1], found

    def _read(self, answer: StoredAnswer) -> tuple[dict[str, float], str]:
        """How good each picture is, by its digest, and why."""
        _, shown, _ = parts_of(answer)
        name = answer.template.split(".")[0]
        reading = _MODES[name].read(answer, tuple(range(len(shown))), self.rubric)
        if name == ChoiceMode.template:
            return dict(zip(shown, reading.probabilities, strict=True)), ""
        return {digest: -rank for digest, rank in zip(shown, reading.ranks, strict=True)}, reading.reason


def taught_rows(pairs: datasets.Dataset, verdicts: StoredVerdicts) -> tuple[datasets.Dataset, Teacher]:
    """
    Pairs with the labels of a judge, and its words as `rationale`; pairs that it did not decide are left out.

    Args:
        pairs ([`~datasets.Dataset`]): rows with `prompt`, `chosen`, `rejected` and what else they have.
        verdicts ([`StoredVerdicts`]): what the judge said.

    Raises:
        `ValueError`: when it decided none of them.
    """
    for name in _IMAGES:
        if name in pairs.column_names and isinstance(pairs.features[name], datasets.Image):
            pairs = pairs.cast_column(name, datasets.Image(decode=False))
    said = [_decided(row, verdicts) for row in pairs]
    teacher = _teacher(verdicts, [(winner == 0, why, found) for winner, why, found in said], said)
    kept = [i for i, (winner, _, _) in enumerate(said) if winner is not None]

    def labelled(row: dict[str, Any], place: int) -> dict[str, Any]:
        winner, why, _ = said[kept[place]]
        sides = {"chosen": row["chosen"], "rejected": row["rejected"]}
        if winner == 1:
            sides = {"chosen": row["rejected"], "rejected": row["chosen"]}
        return {**sides, "rationale": why}

    dropped = [name for name in ("chosen_noise", "rejected_noise", "rationale") if name in pairs.column_names]
    return pairs.remove_columns(dropped).select(kept).map(labelled, with_indices=True), teacher


def taught_preferences(
    pairs: Iterable[Preference | str], verdicts: StoredVerdicts
) -> tuple[list[Preference | str], Teacher]:
    """[`taught_rows`] for pairs that are measured on: what cannot be used stays a sentence."""
    pairs = list(pairs)
    usable = [pair for pair in pairs if isinstance(pair, Preference)]
    said = [verdicts.decided(p.prompt, p.images, _listed(p.source_image)) for p in usable]
    right = [(winner == pair.winner, why, found) for pair, (winner, why, found) in zip(usable, said, strict=True)]
    teacher = _teacher(verdicts, right, said)
    taught = [replace(p, winner=w) for p, (w, _, _) in zip(usable, said, strict=True) if w is not None]
    return [*taught, *(pair for pair in pairs if isinstance(pair, str))], teacher


def _teacher(verdicts: StoredVerdicts, right: list[tuple], said: list[tuple]) -> Teacher:
    left_out = Counter(why for winner, why, _ in said if winner is None)
    decided = [
        (agrees, found) for (agrees, _, found), (winner, _, _) in zip(right, said, strict=True) if winner is not None
    ]
    if not decided:
        reasons = ", ".join(f"{number} {reason}" for reason, number in left_out.items()) or "there are none"
        raise ValueError(
            f"{verdicts.model} decided none of the pairs ({reasons}); give the pairs that its store is about, with the same "
            "prompts and the same pixels, such as those of `arr-trl judge eval --dataset`."
        )

    def each(name: str) -> float:
        return fmean(sum(getattr(answer, name) for answer in found) for _, found in decided)

    return Teacher(
        model=verdicts.model,
        rubric=verdicts.rubric.name,
        pairs=len(decided),
        agreement=fmean(agrees for agrees, _ in decided),
        questions=fmean(len(found) for _, found in decided),
        prompt_tokens=each("prompt_tokens"),
        completion_tokens=each("completion_tokens"),
        latency_s=each("latency_s"),
        left_out=dict(left_out),
    )


def _decided(row: dict[str, Any], verdicts: StoredVerdicts) -> tuple[int | None, str, list[StoredAnswer]]:
    pictures = [load_image(row[side]) for side in ("chosen", "rejected")]
    source = row.get(SOURCE_COLUMN)
    return verdicts.decided(row["prompt"], pictures, [] if source is None else _listed(load_image(source)))


def _listed(source: Any) -> list[Image.Image]:
    return [] if source is None else list(source) if isinstance(source, list | tuple) else [source]
