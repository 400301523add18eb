"""How much there is to do when pairs are made, and what became of it so far."""

import math
from collections.abc import Sequence

from ..intervals import wilson_interval
from ..judges import JudgeReward, TournamentJudge
from .config import BestWorstConfig, PairsConfig, RichPairsConfig
from .outcome import PairOutcome, dropped_by_reason


def planned_for_best_worst(prompts: int, config: BestWorstConfig, judge: JudgeReward) -> dict[str, tuple[int, int]]:
    """
    Pictures and questions of each stage, at most, as [`~arr_trl.autorubric.progress.RunProgress`] takes them.

    Args:
        prompts (`int`): rows.
        config ([`BestWorstConfig`]): settings.
        judge ([`JudgeReward`]): who judges.
    """
    n = config.num_candidates
    again = 0 if isinstance(judge, TournamentJudge) and judge.pairs == "all" else judge.questions_per_row(2)
    of_a_prompt = {"sample": n, "compare": judge.questions_per_row(n), "judge": again}
    return _by_block(prompts, config, of_a_prompt)


def planned_for_rich(prompts: int, config: RichPairsConfig, judge: JudgeReward) -> dict[str, tuple[int, int]]:
    """
    Pictures and questions of each stage, at most; see [`planned_for_best_worst`].

    Args:
        prompts (`int`): rows.
        config ([`RichPairsConfig`]): settings.
        judge ([`JudgeReward`]): who judges.
    """
    samples = config.samples_per_prompt
    edits = samples * config.edits_per_sample
    questions = edits * judge.questions_per_row(2)
    of_a_prompt = {"sample": samples, "critique": samples, "instruct": samples, "edit": edits, "judge": questions}
    return _by_block(prompts, config, of_a_prompt)


def _by_block(prompts: int, config: PairsConfig, of_a_prompt: dict[str, int]) -> dict[str, tuple[int, int]]:
    planned = {}
    for block in range(math.ceil(prompts / config.prompts_at_once)):
        size = min(config.prompts_at_once, prompts - block * config.prompts_at_once)
        planned |= {f"{name} {block + 1}": (size * count, size * count) for name, count in of_a_prompt.items()}
    return planned


def summary_of(outcomes: Sequence[PairOutcome], how: str) -> str:
    """What became of all outcomes, in a line."""
    made = [outcome for outcome in outcomes if outcome.made]
    said = f"{len(made)} pairs of {len(outcomes)}"
    if how == "rich" and made:
        share = sum(outcome.verdict.winner == 1 for outcome in made) / len(made)
        low, high = wilson_interval(share, len(made))
        said += f"; the edited picture won {share:.0%} [{100 * low:.0f}, {100 * high:.0f}] of them"
    dropped = dropped_by_reason(outcomes)
    return said + (
        f"; dropped: {', '.join(f'{count} {reason}' for reason, count in dropped.items())}" if dropped else ""
    )
