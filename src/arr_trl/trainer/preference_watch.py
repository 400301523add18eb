"""What is measured of given preferences, and when it is told that a run goes wrong."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import torch
from datasets import Dataset
from transformers import TrainerCallback

from ..data import SIZE_COLUMNS
from ..data.given_pictures import PICTURES
from ..objectives import matching_error
from .alerts import warn_once
from .frozen_adapters import REFERENCE
from .frozen_copies import blend_frozen_copy


_RECENT = 3  # logs that a judgement rests on
_MOST_OF_THE_ERROR = 0.1  # of what the reference has, by which that of the preferred pictures may rise


def preference_metrics(
    velocity: torch.Tensor,
    reference_velocity: torch.Tensor,
    target: torch.Tensor,
    scores: torch.Tensor,
    beta: float,
) -> dict[str, torch.Tensor]:
    """
    What is logged of rows, a value `[B]` for each: the best and the worst of a row are what TRL calls chosen and rejected. Two
    pictures of which the model thinks exactly alike count one half in the accuracy, so that at the start, where the adapter
    does nothing, it is .5.

    Args:
        velocity (`torch.Tensor`): `[B, n, L, C]`.
        reference_velocity (`torch.Tensor`): `[B, n, L, C]`.
        target (`torch.Tensor`): `[B, n, L, C]`.
        scores (`torch.Tensor`): `[B, n]`, more is better.
        beta (`float`): that of the loss.
    """
    error, reference_error = matching_error(velocity, target), matching_error(reference_velocity, target)
    risen = error - reference_error
    best, worst = scores.argmax(1, keepdim=True), scores.argmin(1, keepdim=True)
    chosen, rejected = risen.gather(1, best)[:, 0], risen.gather(1, worst)[:, 0]
    margin = -beta / 2 * (chosen - rejected)
    return {
        "rewards/chosen": -beta / 2 * chosen,
        "rewards/rejected": -beta / 2 * rejected,
        "rewards/margins": margin,
        "rewards/accuracies": (margin > 0) + 0.5 * (margin == 0),
        "policy/chosen_error": chosen,
        "policy/rejected_error": rejected,
        "policy/matching_error": reference_error.gather(1, best)[:, 0],
        "policy/kl": matching_error(velocity, reference_velocity).mean(1),
    }


def prompts_of(dataset: Dataset, count: int) -> Dataset:
    """The first rows of `count` distinct prompts, without the pictures that are compared and what is said of their size."""
    first: dict[str, int] = {}
    for place, prompt in enumerate(dataset["prompt"]):
        first.setdefault(prompt, place)
        if len(first) == count:
            break
    dropped = [name for name in (*PICTURES, *SIZE_COLUMNS) if name in dataset.column_names]
    return dataset.select(sorted(first.values())).remove_columns(dropped)


class PreferenceCallback(TrainerCallback):
    """Warns once when the preferred pictures become less likely too, and when the labels are not learned at all."""

    def __init__(self):
        self.warnings: dict[str, str] = {}
        self._history: dict[str, list[float]] = defaultdict(list)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        for name in ("policy/chosen_error", "policy/rejected_error", "policy/matching_error"):
            if name in logs:
                self._history[name].append(logs[name])
        errors = (self._history[f"policy/{name}_error"] for name in ("chosen", "rejected", "matching"))
        warn_once(
            self.warnings, {"both errors rise": both_errors_rise(*errors, loss_type=args.loss_type)}, args, state
        )


def both_errors_rise(
    chosen: Sequence[float], rejected: Sequence[float], reference: Sequence[float], loss_type: str = "sigmoid"
) -> str | None:
    """
    Preferred pictures that are predicted worse than the reference does, as Diffusion-SDPO
    ([paper](https://huggingface.co/papers/2511.03317)) found of Diffusion-DPO: the margin grows since the others are
    predicted worse still, and in the end pictures get worse.
    """
    if len(chosen) < _RECENT:
        return None
    risen, of_reference = fmean(chosen[-_RECENT:]), fmean(reference[-_RECENT:])
    if risen <= _MOST_OF_THE_ERROR * of_reference or fmean(rejected[-_RECENT:]) <= 0:
        return None
    return (
        f"the matching error of the preferred pictures has risen by {risen:.2g} (`policy/chosen_error`), "
        f"{risen / of_reference:.0%} of what the reference has, and that of the others by {fmean(rejected[-_RECENT:]):.2g}: "
        "the margin grows by making both unlikely. Look at pictures. Where they get worse, go back to an earlier checkpoint, "
        "lower `learning_rate`, raise `beta`" + (", or set `loss_type='sdpo'`." if loss_type != "sdpo" else ".")
    )


class SyncReferenceCallback(TrainerCallback):
    """Lets the reference follow the trained adapter, as TRL's `SyncRefModelCallback` does with whole models."""

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        if state.global_step % args.ref_model_sync_steps == 0:
            blend_frozen_copy(model, REFERENCE, 1 - args.ref_model_mixup_alpha)
