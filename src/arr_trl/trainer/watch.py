"""
An end for a run that stops getting better, and warnings in words when it goes wrong: what was seen, what it means, what to
try.
"""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median

from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from .alerts import warn_once
from .flow_config import FlowConfig
from .screen import Screen


_RECENT = 3  # logs that a judgement rests on
_ENOUGH = 6  # logs before a trend is one


def watch(trainer: Trainer) -> None:
    """
    Add the callbacks of a run: its screen, as `trainer.screen`, in place of what [`~transformers.Trainer`] prints, and the
    end that `early_stopping` asks for.
    """
    if trainer.args.early_stopping is not None:
        trainer.add_callback(EarlyStoppingCallback(trainer.args.early_stopping))
    for callback in (ProgressCallback, PrinterCallback):  # whichever of the two Trainer chose
        trainer.remove_callback(callback)
    trainer.screen = Screen(trainer.is_world_process_zero())
    trainer.add_callback(trainer.screen)


class HealthCallback(TrainerCallback):
    """
    Looks at what is logged and warns once of each thing that a run does not recover from by itself.

    - The candidates of a prompt hardly differ, so there is nothing to judge.
    - The judge contradicts itself as often as a coin would.
    - The judge gives no verdict on many comparisons.
    - The clip takes most of the transitions, or none although the updates are off-policy.
    - The divergence from the base runs away.
    - The candidates become alike: the policy collapses.

    `docs/source/troubleshooting.md` explains each.

    Args:
        on_policy (`bool`): whether every update uses a rollout of the current weights, so that nothing can be clipped.
    """

    def __init__(self, on_policy: bool):
        self.on_policy = on_policy
        self.warnings: dict[str, str] = {}  # what was warned of, by kind
        self._history: dict[str, list[float]] = defaultdict(list)

    def on_log(self, args: FlowConfig, state, control, logs=None, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        for name in (
            "rollout/pixel_distance",
            "judge/order_consistency",
            "judge/failure_rate",
            "policy/clip_fraction",
            "policy/kl",
        ):
            if name in logs:
                self._history[name].append(logs[name])
        checks = {
            "no difference": no_difference(self._history["rollout/pixel_distance"]),
            "coin flip": coin_flip(self._history["judge/order_consistency"]),
            "no verdicts": no_verdicts(self._history["judge/failure_rate"]),
            "collapse": collapse(self._history["rollout/pixel_distance"]),
        }
        if "policy/clip_fraction" in logs:  # logged where there is an `epsilon`
            checks["clip"] = clip_problem(self._history["policy/clip_fraction"], self.on_policy, args.epsilon)
        if "policy/kl" in logs:  # where there is a `beta`
            checks["kl"] = kl_running_away(self._history["policy/kl"], args.learning_rate, args.beta)
        warn_once(self.warnings, checks, args, state)


def no_difference(distances: Sequence[float]) -> str | None:
    """Candidates that differ by less than half a grey level."""
    recent = distances[-_RECENT:]
    if len(recent) < _RECENT or fmean(recent) >= 0.5 / 255:
        return None
    return (
        f"the candidates of a prompt differ by {fmean(recent):.1g} of the full range (`rollout/pixel_distance`), less "
        "than half a grey level, so the judge has nothing to see. Raise `noise_level`, move `sde_window_range` to the "
        "first steps, widen `sde_window_size`, or set `share_initial_noise=False`."
    )


def coin_flip(consistency: Sequence[float]) -> str | None:
    """A judge whose two orders agree about as often as two coins, or less: that goes by position."""
    recent = consistency[-_RECENT:]
    if len(recent) < _RECENT or fmean(recent) >= 0.6:
        return None
    return (
        f"the judge says the same in both orders in {fmean(recent):.0%} of its comparisons "
        "(`judge/order_consistency`); a coin reaches 50%. Sharpen the rubric, ask a stronger model, try "
        "`mode='choice'`, and measure it with `arr-trl judge eval`."
    )


def no_verdicts(rates: Sequence[float]) -> str | None:
    """A judge that often has no answer, which costs questions and prompts, and may not be by chance."""
    recent = rates[-_RECENT:]
    if len(recent) < _RECENT or fmean(recent) <= 0.1:
        return None
    return (
        f"the judge gave no verdict on {fmean(recent):.0%} of the comparisons (`judge/failure_rate`), and nothing is learned "
        "from those. `arr-trl judge log` shows why: answers that are cut off need a higher `judge_max_tokens`, a server that is "
        "too slow a longer `judge_timeout_s`, and refusals another model."
    )


def clip_problem(fractions: Sequence[float], on_policy: bool, epsilon: float) -> str | None:
    """A clip that takes most transitions; or that is never reached where it is meant to work."""
    recent = fractions[-_RECENT:]
    if len(recent) < _RECENT:
        return None
    if fmean(recent) > 0.5:
        return (
            f"the clip takes {fmean(recent):.0%} of the transitions (`policy/clip_fraction`), and those have no "
            "gradient. Lower `learning_rate`, take fewer optimizer steps per rollout (`steps_per_generation`, "
            f"`num_iterations`), or raise `epsilon={epsilon:g}`."
        )
    if not on_policy and len(fractions) >= _ENOUGH and max(fractions) == 0:
        return (
            "a rollout is trained on more than once and the clip is never reached (`policy/clip_fraction` is 0), so "
            f"nothing bounds the updates. Choose `epsilon={epsilon:g}` in the size of `policy/ratio_deviation`; "
            "log-probabilities are means over the latent dimensions, so 1e-4 is a usual value."
        )
    return None


def kl_running_away(divergences: Sequence[float], learning_rate: float, beta: float) -> str | None:
    """A divergence beyond what a picture survives, or one that grows faster than training goes on."""
    recent = divergences[-_RECENT:]
    if len(recent) < _RECENT:
        return None
    now = median(recent)
    before = median(divergences[len(divergences) // 2 - 1 : len(divergences) // 2 + 2])
    # a steady drift doubles in the second half of a run; eight times as much is an acceleration
    accelerates = len(divergences) >= _ENOUGH and now > 0.05 and now > 8 * before
    if now <= 2 and not accelerates:
        return None
    return (
        f"the divergence from the base is {now:.2g} and was {before:.2g} half the way back (`policy/kl`): it runs away, "
        f"and pictures turn to noise. Lower `learning_rate={learning_rate:g}`, raise `beta={beta:g}`, and go back to an "
        "earlier checkpoint with `resume_from_checkpoint`."
    )


def collapse(distances: Sequence[float]) -> str | None:
    """Candidates that differed once and have become alike."""
    if len(distances) < 2 * _RECENT:
        return None
    first, recent = fmean(distances[:_RECENT]), fmean(distances[-_RECENT:])
    if recent >= first / 5:
        return None
    return (
        f"the candidates of a prompt differ by {recent:.2g}, {recent / first:.0%} of what it was at the start "
        "(`rollout/pixel_distance`): the policy draws ever the same. Lower `learning_rate`, raise `beta`, stop earlier, "
        "and look at `pixel_diversity` with `arr-trl evaluate`."
    )
