"""Rewards of traces that a judge wrote about the two pictures of a labelled pair, as a reward function in TRL's protocol."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerState

from ..chat import ChatReply
from ..judges import Preset
from ..judges.parsing import ReplyError
from ..judges.preset_verdict import opinion
from .losses import fidelity_rewards, won_comparisons


logger = logging.getLogger(__name__)

_SHOWN = 300  # characters of a trace, in a warning
Score = Callable[[str], float | None]


def score_of(preset: Preset, text: str) -> float | None:
    """The score that a trace gives, as a judge with this preset would read it; `None` where it cannot be read."""
    ask = preset.asks[0]
    try:
        reading = ask.read.read(ChatReply(text=text), ask.name)
    except ReplyError:
        return None
    return opinion(preset, preset.combine, [(ask, reading)]).scores[0]


class PairRewards:
    """
    Rewards the traces of a pair by the scores of all of them: [`won_comparisons`] (GCPO) or [`fidelity_rewards`]
    (Thurstone), of each pair by itself.

    Args:
        score (`Callable[[str], float | None]`): reads the score that a trace gives.
        kind (`str`): `"gcpo"` or `"thurstone"`.
    """

    def __init__(self, score: Score, kind: str):
        self.score, self.kind = score, kind
        self.__name__ = kind
        self._warned = False

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[list[dict[str, Any]]],
        pair: Sequence[int],
        side: Sequence[str],
        log_metric: Callable[[str, float], None],
        trainer_state: TrainerState | None = None,
        **columns: Any,
    ) -> list[float | None]:
        texts = [text_of(completion) for completion in completions]
        scores = [self.score(text) for text in texts]
        rewards: list[float | None] = [None] * len(scores)
        for number in dict.fromkeys(pair):
            groups = [[i for i, p in enumerate(pair) if p == number and side[i] == s] for s in ("chosen", "rejected")]
            if not all(groups):
                raise ValueError(
                    f"Pair {number} was split over batches: its two pictures have to be asked about together."
                )
            given = self._rewards(*([scores[i] for i in group] for group in groups))
            for group, of_group in zip(groups, given, strict=True):
                for i, reward in zip(group, of_group, strict=True):
                    rewards[i] = reward
            better, worse = ([scores[i] for i in group if scores[i] is not None] for group in groups)
            # one value for each pair or trace, of which TRL takes the mean over all processes: means would count alike
            # whether they are of one pair or of ten
            log_metric(f"{self.kind}/skipped", float(given[0] == [None] * len(groups[0])))
            # of pairs whose traces all agree nothing is learned, whether they are right or wrong
            if better and worse:
                log_metric(f"{self.kind}/separated", float(min(better) > max(worse)))
                log_metric(f"{self.kind}/inverted", float(max(better) < min(worse)))
        for score in scores:
            log_metric(f"{self.kind}/unreadable", float(score is None))
        if all(score is None for score in scores) and (trainer_state is None or trainer_state.is_world_process_zero):
            self._warn(texts)
        return rewards

    def _warn(self, texts: list[str]) -> None:
        if not self._warned:
            logger.warning(
                "None of %d traces has a score that can be read, and nothing is learned from them. One of them: %r. Train "
                "the format first, with `--method traces`, or raise `max_completion_length` where they are cut off.",
                len(texts),
                texts[0][-_SHOWN:],
            )
        self._warned = True

    def _rewards(self, better: list[float | None], worse: list[float | None]) -> Sequence[list[float | None]]:
        return won_comparisons(better, worse) if self.kind == "gcpo" else fidelity_rewards([better, worse], [1.0, 0.0])


def text_of(completion: list[dict[str, Any]] | str) -> str:
    """What was written, as messages or as text, their content as text or as parts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
