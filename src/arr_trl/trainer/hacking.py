"""Signs that a reward is gamed: what is not rewarded parts from what is, or pictures change whatever they show."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from transformers import TrainerCallback

from .alerts import warn_once


_RECENT = 3  # logs, or evaluations, that a judgement rests on at least
FEW_PICTURES = 64  # of which the mean says little about those of other prompts
# How far a statistic of the pictures may move from what it was, as a factor, and their colors, as a share.
# Chosen on TinyScenes, where a run under a judge without a blind spot stays within 1.2 and .11; see benchmarks/hacking.py.
_MOST = {"saturation": 1.3, "contrast": 1.3, "edge_density": 1.4, "sharpness": 1.4}
_MOST_COLORS = 0.2


class HackingCallback(TrainerCallback):
    """
    Reads what a run logs of functions that are only watched and of its pictures, and warns once of each thing that says
    that the reward rises without what it is meant for. The curve is in the state of the run, so that one that resumes
    goes on with it.
    """

    def __init__(self):
        self.warnings: dict[str, str] = {}

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        recent = max(_RECENT, -(-FEW_PICTURES // args.pictures_per_draw)) if args.pictures_per_draw else _RECENT
        warn_once(self.warnings, signs(state.log_history, recent), args, state)


def signs(history: Sequence[Mapping[str, float]], recent: int = _RECENT) -> dict[str, str]:
    """What a run's logs say of the reward being gamed: sentences, by kind. `recent` logs are compared with the first."""
    found = {}
    watched = {name for entry in history for name in entry if name.startswith(("watch/", "eval_watch/"))}
    for name in sorted(watched):
        func = name.removeprefix("eval_").split("/")[1]
        if name == f"watch/{func}/agreement":
            found[f"agreement of {func}"] = parting_verdicts(_curve(history, name), func)
        if name == f"eval_watch/{func}/win_rate":
            found[f"win rate of {func}"] = parting_win_rates(
                _curve(history, "eval_win_rate"), _curve(history, name), func
            )
    found["win rate"] = parting_reward(_curve(history, "eval_reward"), _curve(history, "eval_win_rate"))
    for name in _MOST:
        found[name] = run_away(_curve(history, f"pictures/{name}"), name, recent)
    found["colors"] = other_colors(_curve(history, "pictures/histogram_distance"), recent)
    return {kind: sentence for kind, sentence in found.items() if sentence is not None}


def parting_verdicts(agreements: Sequence[float], func: str) -> str | None:
    """A watched function that agrees with the reward much less than it did, or no better than a coin."""
    if len(agreements) < 2 * _RECENT:
        return None
    first, recent = fmean(agreements[:_RECENT]), fmean(agreements[-_RECENT:])
    if recent > first - 0.15 and recent > 0.5:
        return None
    return (
        f"{func} agrees with the reward on {recent:.0%} of the pairs that both decide, and did on {first:.0%} at the start "
        f"(`watch/{func}/agreement`): what is reinforced is no longer what it looks for. Look at the pictures, and end "
        "training at the step where the two parted."
    )


def parting_win_rates(rewarded: Sequence[float], watched: Sequence[float], func: str) -> str | None:
    """A watched function's win rate that falls while that of the reward does not."""
    if (
        len(watched) < 2
        or len(rewarded) < 2
        or max(watched) - watched[-1] <= 0.05
        or rewarded[-1] < max(rewarded) - 0.05
    ):
        return None
    return (
        f"{func} prefers the trained model in {watched[-1]:.0%} of the evaluation's prompts, after {max(watched):.0%} at its "
        f"best (`eval_watch/{func}/win_rate`), while the reward's win rate is {rewarded[-1]:.0%}: the reward rises without "
        "what it is meant for. Go back to the checkpoint of the best, and mend what the judge does not see."
    )


def parting_reward(rewards: Sequence[float], win_rates: Sequence[float]) -> str | None:
    """A reward with a gradient that rises while those who compare in evaluations prefer the trained model less."""
    if len(win_rates) < 2 or len(rewards) < 2 or max(win_rates) - win_rates[-1] <= 0.05 or rewards[-1] < max(rewards):
        return None
    return (
        f"the trained model is preferred in {win_rates[-1]:.0%} of the evaluation's prompts, after {max(win_rates):.0%} at its "
        f"best (`eval_win_rate`), while the reward has never been as high ({rewards[-1]:.3g}, `eval_reward`): its gradient "
        "leads where it was not meant to. Go back to the checkpoint of the best, set `early_stopping`, or raise `beta`."
    )


def run_away(values: Sequence[float], name: str, logs: int = _RECENT) -> str | None:
    """A statistic of the pictures that has left the range of what it was."""
    if len(values) < 2 * logs:
        return None
    first, recent = fmean(values[:logs]), fmean(values[-logs:])
    factor = recent / max(first, 1e-6)
    if 1 / _MOST[name] <= factor <= _MOST[name]:
        return None
    return (
        f"the {name.replace('_', ' ')} of the pictures is {recent:.2g} and was {first:.2g} at the start (`pictures/{name}`), "
        "whatever they show: a judge that likes it is easily pleased. Look at them, raise `beta`, or add a criterion that "
        "says how they should look."
    )


def other_colors(distances: Sequence[float], logs: int = _RECENT) -> str | None:
    """Colors that have moved away from those of the first pictures."""
    recent = distances[-logs:]
    if len(recent) < logs or fmean(recent) <= _MOST_COLORS:
        return None
    return (
        f"{fmean(recent):.0%} of the color of the pictures is another than at the start (`pictures/histogram_distance`). "
        "Look at them, raise `beta`, or add a criterion that says how they should look."
    )


def agreement(rewards: torch.Tensor, watched: torch.Tensor) -> list[float]:
    """
    Of all pairs of a group that both decide, whether they decide alike: 1 or 0 each.

    Args:
        rewards (`torch.Tensor`): `[P, n]`, NaN where there is none.
        watched (`torch.Tensor`): `[P, n]`, NaN where there is none.
    """
    i, j = torch.triu_indices(rewards.shape[1], rewards.shape[1], offset=1)
    ours, theirs = ((values[:, i] - values[:, j]).sign().cpu() for values in (rewards, watched))
    both = (ours * theirs).nan_to_num() != 0
    return (ours == theirs)[both].float().tolist()


def _curve(history: Sequence[Mapping[str, float]], name: str) -> list[float]:
    return [entry[name] for entry in history if name in entry]
