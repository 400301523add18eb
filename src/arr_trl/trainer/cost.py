"""What a run costs, in numbers that follow from its configuration alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..policies import FlowPolicy
from .align_prop_config import AlignPropConfig
from .diffusion_nft_config import DiffusionNFTConfig
from .flow_config import FlowConfig
from .online_config import OnlineConfig
from .trajectory_config import TrajectoryConfig


@dataclass(frozen=True)
class Forwards:
    """
    Forward passes of the transformer, one for each picture in a batch. With LoRA a backward pass costs about as much as
    a forward pass, since the frozen weights need no gradient.

    Args:
        sampling (`int`): of the rollout.
        training (`int`): with gradient; there are as many backward passes.
        reference (`int`): without gradient, of the reference that a penalty or loss holds on to, and of an older policy.
    """

    sampling: int
    training: int
    reference: int

    @property
    def total(self) -> int:
        """All of them, and the backward passes."""
        return self.sampling + 2 * self.training + self.reference


def rollout_forwards(
    args: TrajectoryConfig, prompts: int, window_start: int, decided: int | None = None, guided: bool = False
) -> Forwards:
    """
    What one rollout on one device costs, training included.

    Args:
        args ([`TrajectoryConfig`]): the configuration.
        prompts (`int`): prompts of the rollout.
        window_start (`int`): the first noisy step, s.
        decided (`int`, *optional*): prompts that are not masked; all of them by default.
        guided (`bool`, *optional*, defaults to `False`):
            Whether `guidance_scale` means classifier-free guidance in this family, whose second branch counts too.

    Returns:
        [`Forwards`]
    """
    n, w, steps = args.num_generations, args.window_size, args.num_inference_steps
    if args.share_initial_noise:
        # the candidates are one until the first noise parts them
        sampling, rows = window_start + 1 + n * (steps - window_start - 1), 1 + n * (w - 1)
    else:
        sampling, rows = n * steps, n * w
    rows *= prompts if decided is None else decided
    # as evenly as they can be split; a micro-step without rows computes one all the same
    sizes = [max((rows + i) // args.steps_per_generation, 1) for i in range(args.steps_per_generation)]
    reference = sum(math.ceil(args.kl_fraction * size) for size in sizes) if args.needs_reference else 0
    in_rollout, in_loss = branches(args, guided)
    return Forwards(in_rollout * prompts * sampling, in_loss * args.num_iterations * sum(sizes), in_loss * reference)


def window_forwards(args: TrajectoryConfig, guided: bool) -> list[Forwards]:
    """What a rollout on one device costs with the first window and with the last one."""
    first, end = args.sde_window_range
    starts = (first, end - args.window_size)
    return [rollout_forwards(args, args.prompts_per_rollout, start, guided=guided) for start in starts]


def forward_point_forwards(
    args: DiffusionNFTConfig, prompts: int, decided: int | None = None, guided: bool = False
) -> Forwards:
    """
    What one rollout costs whose finished pictures are trained on; see [`rollout_forwards`].

    Args:
        args ([`DiffusionNFTConfig`]): the configuration.
        prompts (`int`): prompts of the rollout.
        decided (`int`, *optional*): prompts that are not masked; all of them by default.
        guided (`bool`, *optional*, defaults to `False`): whether guidance has a second branch.
    """
    n, steps = args.num_generations, args.steps_per_generation
    rows = args.num_train_points * (prompts if decided is None else decided)
    points = n * sum(max((rows + i) // steps, 1) for i in range(steps))
    without_gradient = int(args.needs_reference) + int(args.keeps_old_policy)
    in_rollout, in_loss = branches(args, guided)
    return Forwards(
        in_rollout * prompts * n * args.num_inference_steps,
        in_loss * args.num_iterations * points,
        in_loss * without_gradient * points,  # they stay for the other iterations
    )


def backprop_forwards(args: AlignPropConfig, guided: bool = False) -> list[Forwards]:
    """
    What the pictures of one optimizer step on one device cost, the least and the most; see [`rollout_forwards`].

    Args:
        args ([`AlignPropConfig`]): the configuration.
        guided (`bool`, *optional*, defaults to `False`): whether guidance has a second branch, here and there.
    """
    steps, (first, end) = args.num_inference_steps, args.backprop_range
    most = args.backprop_steps
    without_and_with = {
        "last": [(steps - count, count) for count in (args.min_backprop_steps or most, most)],
        "random": [(steps - most, most)],
        "refl": [(first, 1), (end - 1, 1)],
        "leap": [(steps, 2)],
    }[args.backprop_strategy]
    pictures = args.per_device_train_batch_size * args.gradient_accumulation_steps * (2 if guided else 1)
    costs = {
        Forwards(pictures * without, pictures * trained, pictures * trained if args.beta > 0 else 0)
        for without, trained in without_and_with
    }
    return sorted(costs, key=lambda cost: cost.total)


def passes_of_a_step(args: FlowConfig, guided: bool) -> float:
    """
    Forwards and backwards of the transformer for an optimizer step on one device, one for each picture; the mean where they
    differ.

    Args:
        args ([`FlowConfig`]): the configuration of any trainer here.
        guided (`bool`): whether guidance has a second branch.
    """
    if isinstance(args, AlignPropConfig):
        costs = backprop_forwards(args, guided)
    elif isinstance(args, TrajectoryConfig):
        costs = window_forwards(args, guided)
    elif isinstance(args, DiffusionNFTConfig):
        costs = [forward_point_forwards(args, args.prompts_per_rollout, guided=guided)]
    else:  # of both pictures of a pair: forward, backward, reference
        return 6 * args.num_train_points * args.pairs_per_step
    rollouts = args.gradient_accumulation_steps / args.steps_per_rollout if isinstance(args, OnlineConfig) else 1
    return rollouts * sum(cost.total for cost in costs) / len(costs)


def describe_backprop(
    args: AlignPropConfig, forwards: Sequence[Forwards], num_processes: int
) -> list[tuple[str, str]]:
    """What one optimizer step consists of; see [`describe`]."""
    per_device = args.per_device_train_batch_size * args.gradient_accumulation_steps
    trained, passes = (
        " to ".join(f"{count / per_device:.4g}" for count in sorted({getattr(cost, name) for cost in forwards}))
        for name in ("training", "total")
    )
    devices = f" on {num_processes} devices" if num_processes > 1 else ""
    return [
        ("optimizer step", f"{per_device * num_processes} pictures{devices}"),
        ("drawn", f"{args.per_device_train_batch_size} at a time in {args.num_inference_steps} steps"),
        ("transformer", f"{passes} passes for each picture, {trained} with gradient ({args.backprop_strategy!r})"),
    ]


def branches(args: OnlineConfig, guided: bool) -> tuple[int, int]:
    """Passes that a velocity takes in the rollout and in the loss, two where guidance has a second branch."""
    in_rollout = 2 if guided and args.classifier_free_guidance != "off" else 1
    in_loss = 2 if guided and args.classifier_free_guidance == "both" else 1
    return in_rollout, in_loss


def unseen_prompts(args: OnlineConfig, num_prompts: int, of_rollout: int) -> int:
    """
    How many prompts of a dataset a run draws nothing for.

    Args:
        args ([`OnlineConfig`]): the configuration.
        num_prompts (`int`): prompts of the dataset.
        of_rollout (`int`): prompts of one rollout, on all devices.
    """
    rollouts = int(args.num_train_epochs * (num_prompts // of_rollout))
    if args.max_steps > 0:
        rollouts = -(-args.max_steps * args.gradient_accumulation_steps // args.steps_per_rollout)
    return max(0, num_prompts - rollouts * of_rollout)


def describe(
    args: OnlineConfig,
    forwards: Sequence[Forwards],
    num_processes: int,
    questions_per_prompt: int = 0,
    policy: FlowPolicy | None = None,
) -> list[tuple[str, str]]:
    """
    What one rollout and one optimizer step consist of, part by part, in words.

    Args:
        args ([`OnlineConfig`]): the configuration.
        forwards (`Sequence[Forwards]`): what a rollout on one device costs, the least and the most.
        num_processes (`int`): devices.
        questions_per_prompt (`int`, *optional*, defaults to `0`): what judges are asked about one prompt.
        policy ([`FlowPolicy`], *optional*): the policy; without one there is no classifier-free guidance.
    """
    n, points = args.num_generations, args.points_per_candidate
    per_device = args.prompts_per_rollout
    prompts = per_device * num_processes
    images = prompts * n
    repeats = args.steps_per_rollout
    rollouts_per_update = max(args.gradient_accumulation_steps // repeats, 1)
    updates = max(repeats // args.gradient_accumulation_steps, 1)
    per_update = args.per_device_train_batch_size * args.gradient_accumulation_steps * num_processes
    guided = policy is not None and policy.uses_cfg(args.guidance_scale)
    costs = sorted({cost.total for cost in forwards})
    lines = [("rollout", f"{prompts} prompts × {n} candidates = {images} images")]
    if num_processes > 1:
        lines.append(("devices", f"{num_processes}, with {per_device} prompts each"))
    over = f", {args.num_iterations} times over" if args.num_iterations > 1 else ""
    lines += [
        (
            "loss",
            f"{points} of {args.num_inference_steps} {args.points_are} = {images * points} {args.rows_are}{over}",
        ),
        (
            f"optimizer step{'s' * (updates > 1)}",
            (f"{rollouts_per_update} rollouts for each" if rollouts_per_update > 1 else f"{updates}")
            + f" of {per_update} {args.rows_are}",
        ),
        ("transformer", f"{' to '.join(f'{cost / per_device:.4g}' for cost in costs)} passes for each prompt"),
    ]
    if guided:
        where = {
            "both": "doubles all passes",
            "rollout": "doubles the passes of sampling",
            "off": "waits for evaluation",
        }
        told = f"{policy.guidance_argument}={args.guidance_scale:g} {where[args.classifier_free_guidance]}"
        lines.append(("guidance", told))
    if questions_per_prompt:
        questions = prompts * questions_per_prompt
        total = ""
        if args.max_steps > 0:
            rollouts = -(-args.max_steps * rollouts_per_update // updates)
            total = f", {questions * rollouts:,} in {args.max_steps} optimizer steps"
        lines.append(("judge", f"{questions} questions{total}"))
    return lines
