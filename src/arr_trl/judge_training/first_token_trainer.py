"""A judge that learns to answer with the right first token, and to say why after it."""

from typing import Any

import torch
from trl import SFTTrainer

from .first_token_config import FirstTokenSFTConfig
from .judge_trainer import JudgeTrainer
from .losses import first_token_losses, first_token_mask


class FirstTokenSFTTrainer(JudgeTrainer, SFTTrainer):
    """
    Supervised training of a judge that is read at the first token of its answer (PaCo-Reward,
    [paper](https://huggingface.co/papers/2512.04784)), on TRL's [`~trl.SFTTrainer`].

    Rows have `prompt` and `completion`, lists of messages, and `images`, the pictures of the prompt in their order;
    [`answer_rows`] makes them of labelled pairs. The loss is the mean over the answers of an optimizer step, however they
    are spread over micro-steps and processes; that of an answer is [`first_token_losses`]. `first_token_accuracy` is the
    share of first tokens that are the most likely ones.

    Args:
        args ([`FirstTokenSFTConfig`]): the configuration.
        *args, **kwargs: as of [`~trl.SFTTrainer`] and of [`JudgeTrainer`].
    """

    args: FirstTokenSFTConfig

    def card_settings(self) -> dict[str, Any]:
        return super().card_settings() | {"first_token_weight": self.args.first_token_weight}

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | int | None:
        """Answers, not tokens: what the loss is the mean over."""
        return super()._get_num_items_in_batch([{"labels": _one_of_each(b["labels"])} for b in batch_samples], device)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ):
        mode = "train" if self.model.training else "eval"
        outputs = model(**{**inputs, "use_cache": False}, fused_lm_head=True)
        losses = first_token_losses(outputs.log_probs, outputs.label_mask, self.args.first_token_weight)
        if num_items_in_batch is None:
            loss = losses.mean()
        else:
            loss = losses.sum() / num_items_in_batch
            if self.args.average_tokens_across_devices:  # counted over all processes, whose gradients are averaged
                loss = loss * self.accelerator.num_processes
        first = first_token_mask(outputs.label_mask)
        for name, mask in (("first_token_accuracy", first), ("mean_token_accuracy", outputs.label_mask.bool())):
            right = torch.stack([(outputs.is_top1.bool() & mask).sum(), mask.sum()])
            number, of = self.accelerator.gather_for_metrics(right[None]).sum(0).tolist()
            if of:
                self._metrics[mode][name].append(number / of)
        return (loss, outputs) if return_outputs else loss


def _one_of_each(labels: torch.Tensor) -> torch.Tensor:
    """Labels of which each row keeps the first that counts."""
    kept = torch.zeros_like(labels, dtype=torch.bool)
    kept[:, 1:] = first_token_mask(labels[:, 1:] != -100)  # the first one has nothing that it could be told from
    return labels.masked_fill(~kept, -100)
