"""What judges learn from, as functions of tensors and lists: the loss of an answer's first token, and rewards of traces."""

import math
from collections.abc import Sequence
from statistics import fmean, variance

import torch


def first_token_mask(label_mask: torch.Tensor) -> torch.Tensor:
    """Where the first token of each answer stands: `[B, L]`, from where any of its tokens stand."""
    return label_mask.bool() & (label_mask.long().cumsum(1) == 1)


def first_token_losses(log_probs: torch.Tensor, label_mask: torch.Tensor, first_token_weight: float) -> torch.Tensor:
    """
    Loss of each answer: a share of it is the first token's, the rest the mean of the others' (PaCo-RL,
    [paper](https://huggingface.co/papers/2512.04784), as its text has it; its code divides the weights by all tokens of the
    batch, where of ten tokens the first counts 1.1% and not 10%).

    Args:
        log_probs (`torch.Tensor`): log-probability of each label, `[B, L]`.
        label_mask (`torch.Tensor`): where the answer stands, `[B, L]`.
        first_token_weight (`float`): the first token's share, 0 to 1. An answer of one token has all of it.

    Returns:
        `torch.Tensor`: `[B]`.
    """
    first = first_token_mask(label_mask)
    rest = label_mask.bool() & ~first
    number = rest.sum(1)
    of_first = -(log_probs * first).sum(1)
    of_rest = -(log_probs * rest).sum(1) / number.clamp(min=1)
    return torch.where(number > 0, first_token_weight * of_first + (1 - first_token_weight) * of_rest, of_first)


def won_comparisons(
    better: Sequence[float | None], worse: Sequence[float | None]
) -> tuple[list[float | None], list[float | None]]:
    """
    Rewards of GCPO for the traces about the two pictures of a pair that people labelled (Edit-R1,
    [paper](https://huggingface.co/papers/2604.27505)): the share of the other group's traces that a trace agrees with the
    label against. A tie is no win of either. Both groups have the same mean reward.

    Args:
        better (`Sequence[float | None]`):
            Scores of the picture that people preferred, one of each trace; `None` where it cannot be read.
        worse (`Sequence[float | None]`): scores of the other one.

    Returns:
        `tuple[list[float | None], list[float | None]]`: `None` for a trace without a score, which takes part in no
            comparison; all are `None` where a group has fewer than two scores.
    """
    read_better, read_worse = ([s for s in scores if s is not None] for scores in (better, worse))
    if min(len(read_better), len(read_worse)) < 2:
        return [None] * len(better), [None] * len(worse)
    return (
        [None if score is None else fmean(score > other for other in read_worse) for score in better],
        [None if score is None else fmean(score < other for other in read_better) for score in worse],
    )


def fidelity_rewards(
    scores: Sequence[Sequence[float | None]], truths: Sequence[float], epsilon: float = 1e-6
) -> list[list[float | None]]:
    """
    Rewards of VisualQuality-R1 ([paper](https://huggingface.co/papers/2505.14460)): how well a trace's score of a picture,
    against what all traces say of the others, fits the order that people gave them.

    The chance that a picture is better than another is that of Thurstone's model, with the means and variances of their
    scores (the sample's, K - 1; the paper does not say which); the reward is the fidelity of that chance and the truth,
    mean over the other pictures.

    Args:
        scores (`Sequence[Sequence[float | None]]`): scores of each picture, one of each trace; `None` where it cannot be
            read.
        truths (`Sequence[float]`): what people say of each picture, more is better.
        epsilon (`float`, *optional*, defaults to `1e-6`): added to the variance.

    Returns:
        `list[list[float | None]]`: `None` for a trace without a score, and for all of a picture that nothing can be
            compared with: one, or all others, with fewer than two scores.
    """
    read = [[score for score in of_one if score is not None] for of_one in scores]
    known = {i: (fmean(some), variance(some)) for i, some in enumerate(read) if len(some) >= 2}
    rewards: list[list[float | None]] = []
    for i, of_one in enumerate(scores):
        others = [j for j in known if j != i]
        if i not in known or not others:
            rewards.append([None] * len(of_one))
            continue
        rewards.append(
            [
                None
                if score is None
                else fmean(
                    _fidelity(
                        _normal_cdf((score - known[j][0]) / math.sqrt(known[i][1] + known[j][1] + epsilon)),
                        0.5 if truths[i] == truths[j] else float(truths[i] > truths[j]),
                    )
                    for j in others
                )
                for score in of_one
            ]
        )
    return rewards


def _fidelity(chance: float, truth: float) -> float:
    return math.sqrt(truth * chance) + math.sqrt((1 - truth) * (1 - chance))


def _normal_cdf(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))
