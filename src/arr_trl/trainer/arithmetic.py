"""What a run costs, in numbers that follow from its configuration alone."""

import math
from dataclasses import dataclass

from .rpo_config import RPOConfig


@dataclass(frozen=True)
class Forwards:
    """
    Forward passes of the transformer, one for each picture in a batch. With LoRA a backward pass costs about as much as
    a forward pass, since the frozen weights need no gradient.

    Args:
        sampling (`int`): of the rollout.
        training (`int`): with gradient; there are as many backward passes.
        reference (`int`): of the model without the adapter, for the KL penalty.
    """

    sampling: int
    training: int
    reference: int

    @property
    def total(self) -> int:
        """All of them, and the backward passes."""
        return self.sampling + 2 * self.training + self.reference


def rollout_forwards(args: RPOConfig, prompts: int, window_start: int, decided: int | None = None) -> Forwards:
    """
    What one rollout on one device costs, training included.

    Args:
        args ([`RPOConfig`]): the configuration.
        prompts (`int`): prompts of the rollout.
        window_start (`int`): the first noisy step, s.
        decided (`int`, *optional*): prompts that are not masked; all of them by default.

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
    reference = sum(math.ceil(args.kl_fraction * size) for size in sizes) if args.beta > 0 else 0
    return Forwards(prompts * sampling, args.num_iterations * sum(sizes), reference)
