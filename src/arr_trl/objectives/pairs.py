"""What the pairs of a row lose, shared among its candidates."""

import torch


_TIE = 1e-6  # what sums of several rewards differ by, by rounding alone, is no preference


def share_of_pairs(losses: torch.Tensor) -> torch.Tensor:
    """
    Each candidate's half of the losses of its pairs, averaged over the n - 1 others of its row.

    Args:
        losses (`torch.Tensor`): `[R, n, n]`, symmetric, 0 for pairs that are not counted: they stay in the denominator.

    Returns:
        `torch.Tensor`: `[R, n]`. The sum over a row of two is the loss of its pair.
    """
    return losses.sum(-1) / (2 * max(losses.shape[-1] - 1, 1))


def preference_loss(
    scores: torch.Tensor,
    advantages: torch.Tensor,
    weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """
    -ln σ(score of the better - score of the worse), of every pair of a row whose advantages differ by more than 1e-6.

    Args:
        scores (`torch.Tensor`): `[R, n]`, with gradient.
        advantages (`torch.Tensor`): `[R, n]`, of which only the order counts; NaN where a candidate is masked.
        weights (`torch.Tensor`, *optional*): `[R, n, n]`, what each pair counts, 1 if not given.
        label_smoothing (`float`, *optional*, defaults to `0.0`):
            Probability that the better is the worse: the loss is then the mean over what it may be, as in TRL's
            `DPOTrainer`.

    Returns:
        `torch.Tensor`: `[R, n]`, as [`share_of_pairs`] divides it.
    """
    # 1 where i is better than j, -1 where it is worse, 0 for a tie or where one of them is masked
    difference_RNN = (advantages[:, :, None] - advantages[:, None]).nan_to_num()
    better_RNN = torch.where(difference_RNN.abs() > _TIE, difference_RNN.sign(), 0.0)
    margin_RNN = better_RNN * (scores[:, :, None] - scores[:, None])
    as_labelled, turned = (-torch.nn.functional.logsigmoid(sign * margin_RNN) for sign in (1, -1))
    losses_RNN = ((1 - label_smoothing) * as_labelled + label_smoothing * turned) * better_RNN.abs()
    return share_of_pairs(losses_RNN if weights is None else losses_RNN * weights)
